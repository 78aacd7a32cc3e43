#!/bin/sh
# setup.sh demo|test|bench - install what the demo, the tests or the benchmarks need and this Debian machine lacks.
#
# Asks nothing.  Installs as root or through "sudo -n"; where neither works, it prints the line to run
# and exits with 1.  When all is there it does nothing, quickly.
set -eu
what=${1:-}
case $what in
demo | test | bench) ;;
*) echo "usage: setup.sh demo|test|bench" >&2; exit 2 ;;
esac

missing=
lacks() { # package, reason; a package with a ? behind it is one that not every release has, or needs
    echo "setup: ${1%\?} is missing: $2" >&2
    missing="$missing $1"
}
have() { command -v "$1" >/dev/null; }

have qemu-system-x86_64 || lacks qemu-system-x86 "QEMU, whose disks the service moves"
have qemu-img && have qemu-nbd && have qemu-io || lacks qemu-utils "makes, serves and checks disk images"
have gcc || lacks gcc "builds the one program of the test guest"
[ -n "$(find /usr/lib /usr/lib64 -maxdepth 2 -name libc.a 2>/dev/null | head -n 1)" ] ||
    lacks libc6-dev "the static C library, for that program"
[ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import bz2, lzma' 2>/dev/null ||
    lacks python3 "runs the test guest and checks its disks"
have zstd || lacks zstd "unpacks the kernel of the test guest"
have lz4 || lacks lz4 "unpacks that of an older Debian"
if [ "$what" != demo ]; then
    have libvirtd || lacks libvirt-daemon "the peer with which copies are compared, and whose jobs are shown"
    [ -n "$(find /usr/lib -path '*/connection-driver/libvirt_driver_qemu.so' 2>/dev/null)" ] ||
        lacks libvirt-daemon-driver-qemu "its part for QEMU"
    have virsh || lacks libvirt-clients "its command"
fi
if [ "$what" = bench ]; then
    have etcd || lacks etcd-server "the directory of a fleet"
    /usr/bin/python3 -c 'import libvirt' 2>/dev/null || lacks python3-libvirt "asks libvirt about a job, as a peer"
fi
if [ "$what" = test ]; then
    # Debian's python3, for which the packages are, not another one that comes first in PATH.
    can_import() {
        /usr/bin/python3 -c 'import sys; from importlib.util import find_spec
name = sys.argv[1]; sys.exit(not (find_spec(name.split(".")[0]) and find_spec(name)))' "$1" 2>/dev/null
    }
    can_import grpc || lacks python3-grpcio "a client that is not ours, for the tests of the API"
    can_import google.protobuf || lacks python3-protobuf "the messages of that client"
    have socat || lacks socat "asks QEMU by hand, as docs/recovery.md does"
    have jq || lacks jq "reads journals and answers, as docs/recovery.md does"
    have etcd || lacks etcd-server "the directory of a fleet"
    have etcdctl || lacks etcd-client "a client of it that is not ours"
    have prometheus && have promtool || lacks prometheus "asks for the metrics, and checks the alerts"
    have systemd-analyze || lacks systemd "checks the units of deploy/systemd"
    have openssl || lacks openssl "makes the certificates of servers with TLS"
    have script || lacks bsdutils "runs the command on a terminal"
    have zsh || lacks zsh "completes the command, as its users' shells do"
    have fish || lacks fish "completes the command, as its users' shells do"
    have curl || lacks curl "asks the page's server by hand, as docs/page.md does"
    have chromium || lacks chromium "shows the page, which is looked at"
    have protoc || lacks protobuf-compiler "generates that client from proto/"
    have grpc_python_plugin || lacks protobuf-compiler-grpc "generates its stubs"
    [ -e /usr/include/google/protobuf/duration.proto ] || lacks libprotobuf-dev "what the contract imports"
    have go || lacks golang-go "builds the examples in Go"
    have protoc-gen-go || lacks protoc-gen-go "generates its messages"
    have protoc-gen-go-grpc || lacks protoc-gen-go-grpc "generates its stubs"
    for library in grpc protobuf genproto; do
        [ -d /usr/share/gocode/src/google.golang.org/$library ] ||
            lacks golang-google-$library-dev "a library of these examples"
    done
    # Its older package has the same place.
    grep -qs google.golang.org/protobuf /usr/share/gocode/src/github.com/golang/protobuf/ptypes/any/any.pb.go ||
        lacks golang-github-golang-protobuf-1-5-dev "a library of these examples"
    have javac || lacks default-jdk-headless "builds the example in Java"
    have grpc_java_plugin || lacks protobuf-compiler-grpc-java-plugin "generates its stubs"
    for library in protobuf grpc-netty:grpc guava geronimo-annotation-1.3-spec netty-codec-http2:netty perfmark-api:perfmark; do
        [ -e /usr/share/java/${library%:*}.jar ] || lacks lib${library#*:}-java "a library of that example"
    done
    have cargo || lacks cargo "compiles the contract in Rust"
    for crate in prost-build prost-types; do
        [ -n "$(find /usr/share/cargo/registry -maxdepth 1 -name "$crate-*" 2>/dev/null)" ] ||
            lacks librust-$crate-dev "a crate for that"
    done
    have mkfs.ext4 || [ -x /usr/sbin/mkfs.ext4 ] || lacks e2fsprogs "makes a file system whose power can be cut"
    have lintian || lacks lintian "judges the Debian package"
    have man || lacks man-db "shows manual pages"
    have groff && [ -e /usr/share/groff/current/tmac/an.tmac ] || lacks groff "checks manual pages"
    have strip || lacks binutils "makes the Debian package's Node smaller"
    # Only root can do anything with them; where Docker answers already they are not needed.
    if [ "$(id -u)" = 0 ] && ! docker version >/dev/null 2>&1; then
        have dockerd || lacks docker.io "runs the machines of a fleet"
        have docker || lacks "docker-cli?" "asks it; before Debian 13 it comes with docker.io"
        have iptables || lacks iptables "their networks, and cuts between them"
        have debootstrap || lacks debootstrap "makes their image where no registry has it"
    fi
fi
[ -n "$missing" ] || exit 0

if ! have apt-get; then
    echo "setup: this is no Debian; please install the like of:$(echo "$missing" | tr -d '?')" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    root=env
elif have sudo && sudo -n true 2>/dev/null; then
    root="sudo -n env"
else
    echo "setup: this needs root, and sudo is not there or wants a password. Please run, as root:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends$(echo "$missing" | tr -d '?')" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# Lists that are missing or older than a day name packages that the archive no longer has.
if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -1 2>/dev/null | head -n 1)" ]; then
    echo "setup: the package lists are missing or old: updating them" >&2
    $root DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
fi
# One name that apt does not know would keep all others away.
known=
for package in $missing; do
    if apt-cache show "${package%\?}" >/dev/null 2>&1; then
        known="$known ${package%\?}"
    elif [ "$package" = "${package%\?}" ]; then
        echo "setup: apt knows no $package here: what needs it cannot be done, and will say so" >&2
    fi
done
[ -n "$known" ] || exit 0
echo "setup: installing$known" >&2
# shellcheck disable=SC2086 # a list of packages
$root DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $known >&2 </dev/null
# Debian starts what it installs; the tests start their own, and end it.
if [ -d /run/systemd/system ]; then
    case $missing in *libvirt-daemon*) $root systemctl --quiet disable --now libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd >&2 || true ;; esac
    case $missing in *etcd-server*) $root systemctl --quiet disable --now etcd >&2 || true ;; esac
    case $missing in *prometheus*) $root systemctl --quiet disable --now prometheus >&2 || true ;; esac
    case $missing in *docker.io*) $root systemctl --quiet disable --now docker.socket docker >&2 || true ;; esac
fi
