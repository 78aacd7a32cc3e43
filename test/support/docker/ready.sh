#!/bin/sh
# ready.sh start [IMAGE] - make Docker answer, and have the Debian image from which the images of the tests are built.
# ready.sh stop          - stop the Docker that was started so; one that was there before is left alone.
#
# If Docker answers, and has the image or can pull it, nothing is started or made.  Otherwise, as root, it starts
# dockerd, and makes the image with debootstrap; setup.sh installs the packages for that. Exits with 3, and says why, if
# Docker is not available; the caller decides what to do then.
set -eu
image=${2:-debian:bookworm-slim}
release=bookworm
dir=/var/lib/blockjobd-docker # logs; a lock; the started processes

say() { echo "docker: $*" >&2; }
no() {
    say "$*"
    exit 3
}
have() { command -v "$1" >/dev/null; }
answers() { timeout 15 docker version >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# A dockerd that was killed leaves files with its process id, and that of its containerd; the next one takes another
# process with this id, or a dead one that nobody has waited for, for them, and does not start.
forget_dead() { # file, program
    id=$(cat "$1" 2>/dev/null) || return 0
    if [ "$(cat "/proc/$id/comm" 2>/dev/null)" != "$2" ] || grep -q '^State:.Z' "/proc/$id/status"; then
        rm -f "$1"
    fi
}

start() {
    have dockerd && have iptables || no "Docker does not answer, and dockerd or iptables is not installed"
    if [ -d /run/systemd/system ]; then
        systemctl start docker || no "systemctl start docker has failed"
        echo systemd >"$dir/started"
        return
    fi
    forget_dead /var/run/docker.pid dockerd
    forget_dead /var/run/docker/containerd/containerd.pid containerd
    say "starting dockerd, which logs to $dir/dockerd.log"
    setsid dockerd >"$dir/dockerd.log" 2>&1 </dev/null 9>&- &
    echo $! >"$dir/started"
    tries=150
    until answers; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! kill -0 $! 2>/dev/null; then
            tail -n 5 "$dir/dockerd.log" >&2
            no "dockerd does not start, see $dir/dockerd.log"
        fi
        sleep 0.2
    done
    give_time
}

# All containers are one control group, which the kernel gives as much time as one process: forty of them would have a
# fifth of a machine on which four other processes are busy, and tests of what is answered in seconds would fail.
give_time() {
    if [ -d /sys/fs/cgroup/cpu ]; then
        mkdir -p /sys/fs/cgroup/cpu/docker && echo 16384 >/sys/fs/cgroup/cpu/docker/cpu.shares
    elif [ -w /sys/fs/cgroup/docker/cpu.weight ]; then
        echo 1600 >/sys/fs/cgroup/docker/cpu.weight
    fi
}

stop() {
    started=$(cat "$dir/started" 2>/dev/null) || return 0
    rm "$dir/started"
    if [ "$started" = systemd ]; then
        systemctl stop docker.socket docker
    elif [ "$(cat "/proc/$started/comm" 2>/dev/null)" = dockerd ]; then
        kill "$started"
        tries=150
        while [ "$(cat /var/run/docker.pid 2>/dev/null)" = "$started" ] && [ $tries != 0 ]; do
            tries=$((tries - 1))
            sleep 0.2
        done
    fi
}

# As docker pull would give it: without what nobody reads in a container.
make_image() {
    is_root || no "$image cannot be pulled, and it takes root to make it"
    have debootstrap || no "$image cannot be pulled, and debootstrap is not installed to make it"
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

case ${1:-} in
start) ;;
stop)
    stop
    exit 0
    ;;
*)
    echo "usage: ready.sh start [IMAGE] | stop" >&2
    exit 2
    ;;
esac

if ! answers; then
    [ -z "${DOCKER_HOST:-}" ] || no "nothing answers at DOCKER_HOST=$DOCKER_HOST"
    [ "$(uname -s)" = Linux ] && is_root || no "Docker does not answer; please start it"
    mkdir -p "$dir"
    exec 9>"$dir/lock"
    flock 9
    if ! answers; then
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
