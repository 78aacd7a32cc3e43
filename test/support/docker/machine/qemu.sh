#!/bin/sh
# qemu.sh NAME UUID DISK [MORE…] - becomes a QEMU with one disk. Its socket in /run/qemu is the service's, that in
# /run/admin the tests'.
set -eu
name=$1 uuid=$2 disk=$3
shift 3
exec qemu-system-x86_64 -machine q35 -accel tcg -m 32 -nodefaults -no-user-config -display none \
    -name "guest=$name" -uuid "$uuid" \
    -chardev "socket,id=qmp,path=/run/qemu/$name.sock,server=on,wait=off" -mon chardev=qmp,mode=control \
    -chardev "socket,id=admin,path=/run/admin/$name.sock,server=on,wait=off" -mon chardev=admin,mode=control \
    -blockdev "driver=file,node-name=file,filename=$disk" -blockdev driver=qcow2,node-name=image,file=file \
    -device virtio-blk-pci,id=virtio0,drive=image "$@"
