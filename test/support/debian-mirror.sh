#!/bin/sh
# debian-mirror.sh - print the mirror of Debian that this machine's apt uses, otherwise the public one.
mirror=$(sed -n 's/^URIs: *\(http[^ ]*\/debian\) *$/\1/p; s/^deb \(\[[^]]*\] \)\?\(http[^ ]*\/debian\)\/\? .*/\2/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
echo "${mirror:-http://deb.debian.org/debian}"
