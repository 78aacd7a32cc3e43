#!/bin/sh
# qemu-root.sh RELEASE FOLDER - make FOLDER/bin/qemu-* : the QEMU of another Debian release (bullseye, trixie, sid …).
#
# Needs root, for debootstrap.  An existing FOLDER is used as it is.  The programs run on this machine's own file
# system, through their own dynamic loader and libraries: no chroot, so tests give them paths as to any other QEMU.
set -eu
release=${1:?release} folder=$(realpath -m "${2:?folder}")
[ ! -x "$folder/bin/qemu-system-x86_64" ] || exit 0

command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends debootstrap >&2
# An old release may have moved to the archive.
mirror=$("$(dirname "$0")/debian-mirror.sh")
mkdir -p "$folder"
for from in "$mirror" http://deb.debian.org/debian http://archive.debian.org/debian; do
    rm -rf "$folder/root"
    # Only unpacked: nothing of it is ever run in a root of its own, so nothing has to be set up.
    if debootstrap --foreign --variant=minbase --include=qemu-system-x86,qemu-utils "$release" "$folder/root" "$from" >"$folder/log" 2>&1
    then break; fi
done
cd "$folder/root"
for package in var/cache/apt/archives/*.deb; do
    # lib may be a link to usr/lib, and has to stay one.
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink
done
rm -rf var/cache/apt/archives

machine=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
loader=$(find lib/ lib64/ usr/lib64/ -maxdepth 2 -name 'ld-linux-*.so.*' 2>/dev/null | head -n 1)
libraries=$(find "lib/$machine/" "usr/lib/$machine/" -maxdepth 2 -name '*.so*' -printf '%h\n' | sed "s|/$||" | sort -u | sed "s|^|$PWD/|" | paste -sd :)
mkdir -p "$folder/bin.new"
for program in qemu-system-x86_64 qemu-img qemu-io qemu-nbd qemu-storage-daemon; do
    [ -x "usr/bin/$program" ] || continue
    firmware=
    [ "$program" != qemu-system-x86_64 ] || firmware="-L $PWD/usr/share/qemu -L $PWD/usr/share/seabios -L $PWD/usr/lib/ipxe/qemu"
    cat >"$folder/bin.new/$program" <<EOF
#!/bin/sh
export QEMU_MODULE_DIR=$PWD/usr/lib/$machine/qemu
exec $PWD/$loader --library-path $libraries $PWD/usr/bin/$program $firmware "\$@"
EOF
    chmod +x "$folder/bin.new/$program"
done
mv "$folder/bin.new" "$folder/bin"
