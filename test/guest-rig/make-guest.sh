#!/bin/sh
# make-guest.sh [OUTDIR] - build the test guest: OUTDIR/kernel, OUTDIR/initramfs, OUTDIR/accel.
#
# OUTDIR is .cache/guest in the repository by default.  Files that exist and are still right stay.  Any
# number of these may run at the same time.  It installs nothing and asks nothing; an ordinary user can
# run it.
#
# Needs: Debian (apt-get, dpkg-deb), gcc with the static libc (libc6-dev), python3, zstd, lz4, qemu-system-x86,
# qemu-utils.  The kernel is what linux-image-cloud-amd64 depends on today, or Ubuntu's linux-image-virtual; set
# GUEST_DEBS to a folder with that linux-image .deb, and its linux-binary and linux-modules .deb if it has such, to do
# without a network.
# OUTDIR/accel contains "kvm" or "tcg": the first one with which this guest really boots on this machine.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../.cache/guest}
mkdir -p "$out/debs"
out=$(cd "$out" && pwd)
exec 9>"$out/lock"
flock 9

say() { echo "make-guest: $*" >&2; }

# The package lists of this machine, or, with "own", a copy in OUTDIR that needs no root to be up to date.
lists=system
apt() {
    tool=$1
    shift
    if [ "$lists" = own ]; then
        set -- -o "Dir::State=$out/apt/state" -o "Dir::State::lists=$out/apt/state/lists" -o "Dir::Cache=$out/apt/cache" -o "Dir::State::status=/var/lib/dpkg/status" "$@"
    fi
    "apt-$tool" -q -o APT::Sandbox::User=root "$@"
}
own_lists() {
    say "the machine's package lists are empty or old: fetching lists of our own"
    lists=own
    mkdir -p "$out/apt/state/lists/partial" "$out/apt/cache/archives/partial"
    apt get update >&2
}
# The package that depends on the newest kernel: Debian's name, then Ubuntu's.
meta_packages="linux-image-cloud-amd64 linux-image-virtual"
depends() { # package, pattern of what it depends on
    apt cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: *\($2\)\$/\1/p"
}
kernel_package() {
    for meta in $meta_packages; do
        depends "$meta" 'linux-image-[0-9].*' | grep . && return
    done | head -n 1
}
downloaded() {
    find "$out/debs" -name "$1_*.deb" | sort -V | tail -n 1
}
download() {
    rm -rf "$out/partial"
    mkdir "$out/partial"
    (cd "$out/partial" && apt get download "$1" >&2 && mv ./*.deb "$out/debs/")
}

# 1. Which kernel, and is it built already?
sources=$(cat "$here/make-guest.sh" "$here/mkboot.py" "$here/gwinit.c" | sha256sum | cut -c 1-16)
built=
[ -f "$out/built" ] && [ -f "$out/kernel" ] && [ -f "$out/initramfs" ] && built=$(cat "$out/built")
deb=
if [ -n "${GUEST_DEBS:-}" ]; then
    deb=$(find "$GUEST_DEBS" -name 'linux-image-[0-9]*.deb' | sort -V | tail -n 1)
    [ -n "$deb" ] || { say "no kernel package in $GUEST_DEBS"; exit 1; }
    package=$(basename "$deb" | sed 's/_.*//')
elif [ "${built% *}" = "$sources" ] && [ "$out/built" -nt /var/lib/apt/lists ]; then
    package=${built#* }                         # the package lists are not newer than the guest
else
    package=$(kernel_package)
    # Without package lists, the existing guest is good enough.
    [ -n "$package" ] || [ "${built% *}" != "$sources" ] || package=${built#* }
    [ -n "$package" ] || { own_lists; package=$(kernel_package); }
    [ -n "$package" ] || {
        say "apt knows no kernel for the guest: looked for a package that depends on one: $meta_packages"
        say "set GUEST_DEBS to a folder with a linux-image-*.deb, or add Debian's archive to apt's sources"
        exit 1
    }
    [ "$built" != "$sources $package" ] || touch "$out/built"
fi

# 2. Build it in another place; only a complete build gets its name.
if [ "$built" != "$sources $package" ]; then
    kernel=$package
    if [ -z "$deb" ]; then
        if [ -z "$(downloaded "$kernel")" ]; then
            say "fetching $kernel"
            download "$kernel" || {             # the archive has a newer one by now
                own_lists
                kernel=$(kernel_package)
                download "$kernel"
            }
        fi
        # Ubuntu has the modules in a package of their own, Debian since Linux 7 the kernel, too.
        for part in $(depends "$kernel" 'linux-\(binary\|modules\)-.*'); do
            [ -n "$(downloaded "$part")" ] || download "$part"
        done
    fi
    say "building the guest from $kernel"
    new=$out/new
    rm -rf "$new" "$out/built" "$out/machine"
    mkdir "$new"
    for kind in image binary modules; do
        part=$(find "${GUEST_DEBS:-$out/debs}" -name "linux-$kind-${kernel#linux-image-}_*.deb" | sort -V | tail -n 1)
        [ -z "$part" ] || dpkg-deb -x "$part" "$new/x"
    done
    # Debian 13 has them below usr/lib, older ones below lib.
    modules=$(find "$new/x" -path '*/lib/modules' -type d | head -n 1)
    image=$(find "$new/x" -name 'vmlinuz*' -type f | head -n 1)
    [ -n "$modules" ] && [ -n "$image" ] || {
        say "$kernel, and its linux-binary and linux-modules if there are any, have no vmlinuz or no lib/modules"
        exit 1
    }
    python3 "$here/mkboot.py" kernel "$image" "$new/kernel"
    gcc -O2 -Wall -Wextra -static -pthread -o "$new/init" "$here/gwinit.c"
    python3 "$here/mkboot.py" initramfs "$new/initramfs" "$new/init" "$modules" \
        virtio_pci virtio_blk virtio_scsi sd_mod nvme pvpanic-pci button evdev
    mv "$new/kernel" "$new/initramfs" "$out/"
    rm -rf "$new"
    echo "$sources $package" >"$out/built"
fi

# 3. Which accelerator really runs it?  Some hosts offer /dev/kvm but cannot run a stock kernel: only a
# boot shows it.  Tried again on another machine, or when /dev/kvm has appeared or disappeared.
kvm=no
[ -r /dev/kvm ] && [ -w /dev/kvm ] && kvm=yes
machine="$(uname -r) kvm=$kvm $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
if [ "$(cat "$out/machine" 2>/dev/null)" != "$machine" ]; then
    python3 "$here/vm.py" probe "$out" >&2
    echo "$machine" >"$out/machine"
fi
