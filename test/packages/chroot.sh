#!/bin/sh
# chroot.sh SCRIPT [ARGUMENT ...] - runs a script as root on a view of this machine. Its changes are gone afterwards.
set -eu
if [ "${VIEW:-}" = '' ]; then
    VIEW=$(mktemp -d) && export VIEW
    trap 'rmdir "$VIEW"' EXIT
    unshare --mount "$0" "$@"
    exit
fi
mount -t tmpfs tmpfs "$VIEW"
mkdir "$VIEW/changed" "$VIEW/work" "$VIEW/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$VIEW/changed,workdir=$VIEW/work" "$VIEW/root"
for folder in /proc /dev; do mount --rbind "$folder" "$VIEW/root$folder"; done
exec chroot "$VIEW/root" "$@"
