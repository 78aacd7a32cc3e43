#!/bin/sh
# inside.sh ROOT PROGRAM [ARGUMENT ...] - run a program as root in a root of its own. Its mounts and its processes are
# its own, too: when it ends nothing of it is left. The settings of this machine for the archives of packages apply in
# it.
set -eu
if [ -z "${INSIDE:-}" ]; then
    root=$1
    npm_config_registry=$(npm config get registry)
    export npm_config_registry INSIDE=yes
    certificates=${NODE_EXTRA_CA_CERTS:-$(npm config get cafile)}
    if [ -r "$certificates" ]; then
        cp "$certificates" "$root/usr/local/share/certificates-of-the-host"
        export NODE_EXTRA_CA_CERTS=/usr/local/share/certificates-of-the-host npm_config_cafile=/usr/local/share/certificates-of-the-host
    fi
    exec unshare --mount --pid --fork --kill-child "$0" "$@"
fi
root=$1
shift
# A root that is a mount of its own can be unshared again.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
for folder in sys dev; do mount --rbind "/$folder" "$root/$folder"; done
mount -t tmpfs tmpfs "$root/run"
cp /etc/resolv.conf "$root/etc/resolv.conf"
kept=
for name in http_proxy https_proxy no_proxy NODE_EXTRA_CA_CERTS npm_config_cafile npm_config_registry; do
    value=$(printenv "$name") && kept="$kept $name=$value"
done
# shellcheck disable=SC2086 # words
exec env -i HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $kept chroot "$root" "$@"
