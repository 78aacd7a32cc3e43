#!/bin/sh
# host.sh VM=UUID… - a host: a QEMU for each VM, with a disk that is full of the VM's own bytes.
# Its agent comes later, and is a child of this process, which waits for whatever ends.
set -eu
mkdir -p /run/qemu /run/admin /var/log/blockjobd /var/lib/images
byte=0
for vm in "$@"; do
    byte=$((byte + 1))
    disk=/var/lib/images/${vm%%=*}.qcow2
    qemu-img create -q -f qcow2 "$disk" 64M
    qemu-io -f qcow2 -c "write -q -P $byte 0 48M" "$disk"
    sh /opt/machine/qemu.sh "${vm%%=*}" "${vm#*=}" "$disk" &
done
echo ready
while :; do
    sleep 3600 &
    wait $!
done
