#!/bin/bash
# use-package.sh BEFORE NOW - in a root that has QEMU: install the Debian package of the version before, upgrade it
# while a copy runs, let the copy end, and purge. Prints what it has found, a line each.
set -euo pipefail
before=$1 now=$2 services=
work=$(mktemp -d)
export DEBIAN_FRONTEND=noninteractive BLOCKJOB_ADDRESS=unix:$work/api.sock
trap 'tail -n 20 "$work"/*.log >&2' ERR
trap 'for pid in $services; do kill "$pid"; done; wait; rm -rf "$work"' EXIT

# No systemd runs in a chroot, but it may be installed: the requests of the package to it are recorded.
mkdir -p /run/systemd/system
rm -f /usr/bin/systemctl
cat >/usr/bin/systemctl <<END
#!/bin/sh
echo "\$*" >>$work/systemctl
END
chmod +x /usr/bin/systemctl

patiently() { # command ...: until it succeeds, half a minute at most
    for _ in $(seq 150); do
        "$@" >"$work/said" 2>&1 && return
        sleep 0.2
    done
    cat "$work/said" >&2
    return 1
}
serve() {
    blockjobd serve --qmp-dir "$work/qemu" --allow-destination "$work" --listen "$BLOCKJOB_ADDRESS" --metrics off >>"$work/service.log" 2>&1 &
    service=$!
    services="$service $services"
    patiently blockjob disks web1
}

apt-get install -y -q --no-install-recommends "$before" >"$work/apt.log" 2>&1
echo "before: $(dpkg-query -f '${Version}' -W blockjobd)"
touch /etc/blockjobd/tls/cert.pem

mkdir "$work/qemu"
qemu-img create -q -f qcow2 "$work/web1.qcow2" 64M
qemu-io -c 'write -P 7 0 64M' "$work/web1.qcow2" >"$work/qemu-io.log"
qemu-system-x86_64 -name web1 -nodefaults -display none -accel tcg -qmp "unix:$work/qemu/web1.sock,server=on,wait=off" \
    -drive "if=none,id=drive0,file=$work/web1.qcow2,format=qcow2" -device virtio-blk-pci,drive=drive0,id=virtio0 >"$work/qemu.log" 2>&1 &
services="$! $services"
serve
blockjob copy web1 virtio0 "$work/new.qcow2" --bandwidth 1MiB >"$work/copy.log"
job=$(sed -n 's/.*job \(bj[0-9a-f]*\).*/\1/p' "$work/copy.log")

: >"$work/systemctl"
apt-get install -y -q --no-install-recommends "$now" >"$work/apt.log" 2>&1
echo "now: $(dpkg-query -f '${Version}' -W blockjobd), $(blockjobd --version | cut -d' ' -f1)"
echo "upgrade: $(grep -c '^try-restart blockjobd-agent.service blockjobd-gateway.service$' "$work/systemctl") restart"
[ -e /usr/lib/blockjobd/only-before ] || echo "upgrade: a file that only the earlier version had is gone"
dpkg --verify blockjobd && echo "upgrade: all files are the package's"

kill "$service"
wait "$service"
services=${services#* }
serve
blockjob speed "$job" 0 >"$work/speed.log"
blockjob watch "$job" --ready >"$work/watch.log" 2>&1
blockjob pivot "$job" >"$work/pivot.log" 2>&1
blockjob info "$job" >"$work/info.log"
grep -q COMPLETED "$work/info.log" && echo "the copy that began before has been pivoted after"
qemu-io -r -U -c 'read -P 7 0 64M' "$work/new.qcow2" >"$work/read.log"
grep -q '64 MiB' "$work/read.log" && echo "the copy is right"

for pid in $services; do kill "$pid"; done
wait
services=
dpkg --purge blockjobd >"$work/dpkg.log" 2>&1
[ -e /etc/blockjobd/tls/cert.pem ] && [ ! -e /var/lib/blockjobd ] && [ ! -e /usr/lib/blockjobd ] && echo "purged"
