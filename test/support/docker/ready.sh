#!/bin/sh
# ready.sh - make Docker answer, and have the Debian image from which the images of the tests are built.
#
# Where Docker answers and has the image or can pull it, nothing is installed or started.  Else, as root on Debian,
# it installs docker.io, starts dockerd (which stays), and makes the image with debootstrap.
# Exits with 3, and says why, where Docker is not to be had; what that means the caller knows.
set -eu
image=${1:-debian:bookworm-slim}
release=bookworm
dir=/var/lib/blockjobd-docker # logs; a lock

say() { echo "docker: $*" >&2; }
no() {
    say "$*"
    exit 3
}
have() { command -v "$1" >/dev/null; }
answers() { timeout 15 docker version >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

install() { # package…
    have apt-get || no "$* is missing, and this is no Debian"
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -1 2>/dev/null | head -n 1)" ]; then
        apt-get update -q >"$dir/apt.log" 2>&1 || no "apt-get update has failed, see $dir/apt.log"
    fi
    apt-get install -y -q --no-install-recommends "$@" >>"$dir/apt.log" 2>&1 </dev/null ||
        no "apt-get install has failed, see $dir/apt.log"
}

# A dockerd that was killed leaves files with its process id, and that of its containerd; the next one takes another
# process with this id, or a dead one that nobody has waited for, for them, and does not start.
forget_dead() { # file, program
    id=$(cat "$1" 2>/dev/null) || return 0
    if [ "$(cat "/proc/$id/comm" 2>/dev/null)" != "$2" ] || grep -q '^State:.Z' "/proc/$id/status"; then
        rm -f "$1"
    fi
}

start() {
    if [ -d /run/systemd/system ]; then
        systemctl start docker || no "systemctl start docker has failed"
        return
    fi
    forget_dead /var/run/docker.pid dockerd
    forget_dead /var/run/docker/containerd/containerd.pid containerd
    say "starting dockerd, which logs to $dir/dockerd.log"
    setsid dockerd >"$dir/dockerd.log" 2>&1 </dev/null 9>&- &
    tries=150
    until answers; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! kill -0 $! 2>/dev/null; then
            tail -n 5 "$dir/dockerd.log" >&2
            no "dockerd does not start, see $dir/dockerd.log"
        fi
        sleep 0.2
    done
}

# As docker pull would give it: without what nobody reads in a container.
make_image() {
    is_root || no "$image cannot be pulled, and it takes root to make it"
    have debootstrap || install debootstrap
    say "$image cannot be pulled: making it with debootstrap, which takes a minute or two"
    root=$dir/root
    rm -rf "$root"
    debootstrap --variant=minbase "$release" "$root" >"$dir/debootstrap.log" 2>&1 ||
        no "debootstrap has failed, see $dir/debootstrap.log"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
        "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale "$root"/var/log/*.log
    tar -C "$root" -c . | docker import -c 'CMD ["bash"]' - "$image" >/dev/null
    rm -rf "$root"
}

if ! answers; then
    [ -z "${DOCKER_HOST:-}" ] || no "nothing answers at DOCKER_HOST=$DOCKER_HOST"
    [ "$(uname -s)" = Linux ] && is_root || no "Docker does not answer; please start it"
    mkdir -p "$dir"
    exec 9>"$dir/lock"
    flock 9
    if ! answers; then
        have dockerd && have iptables || install docker.io iptables
        start
    fi
fi
if ! docker image inspect "$image" >/dev/null 2>&1; then
    if timeout 120 docker pull -q "$image" >/dev/null 2>&1; then
        say "pulled $image"
    else
        mkdir -p "$dir" 2>/dev/null || no "$image cannot be pulled, and it takes root to make it"
        exec 9>"$dir/lock"
        flock 9
        docker image inspect "$image" >/dev/null 2>&1 || make_image
    fi
fi
