#!/bin/sh
# fresh-root.sh RELEASE FOLDER - make FOLDER a Debian in which nothing is installed but Node, npm, make and git.
#
# Prints how many seconds each part took. Needs root and debootstrap.
set -eu
release=${1:?release} folder=${2:?folder}
here=$(cd "$(dirname "$0")" && pwd)
part() { # name, command ...
    name=$1 begun=$(date +%s)
    shift
    "$@" >"$folder.log" 2>&1 || { tail -n 30 "$folder.log" >&2; echo "fresh-root: $name has failed" >&2; exit 1; }
    echo "$name $(($(date +%s) - begun))"
}

part debootstrap debootstrap --variant=minbase "$release" "$folder" "$("$here/../support/debian-mirror.sh")"
# The root is thrown away soon: no need to wait for the disk at each package.
echo force-unsafe-io >"$folder/etc/dpkg/dpkg.cfg.d/unsafe-io"
# How this machine's apt comes to the archive: proxies, and whether it believes old lists.
apt-config dump | grep -E '^Acquire::(https?::|Check-)' >"$folder/etc/apt/apt.conf.d/of-the-host" || true
# All four are asked for in one go, after the base: debootstrap itself cannot order what npm depends on.
part packages "$here/inside.sh" "$folder" sh -euc 'export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -y -q --no-install-recommends nodejs npm make git ca-certificates'
rm "$folder.log"
