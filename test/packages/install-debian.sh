#!/bin/sh
# install-debian.sh PACKAGE - installs, tries and purges it, and says what it has found. Run on a view of a machine.
set -eu
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
# Slim images leave out manual pages.
dpkg --path-include='/usr/share/*' --install "$1" >/dev/null
blockjobd --version
blockjob --version
stat --format '%a %U %G %n' /etc/blockjobd /etc/blockjobd/tls
for unit in agent gateway; do
    systemd-analyze verify "blockjobd-$unit.service"
    grep -q '^ExecStart=/usr/bin/blockjobd ' "/usr/lib/systemd/system/blockjobd-$unit.service"
done
echo units verified
for shell in bash-completion/completions/blockjob fish/vendor_completions.d/blockjob.fish zsh/vendor-completions/_blockjob; do
    [ -s "/usr/share/$shell" ]
done
for page in blockjobd blockjob; do
    [ "$(man --warnings "$page" 2>&1 >/dev/null)" = '' ]
    MANWIDTH=80 man "$page" | grep -q "^NAME" && echo "man page of $page"
done
# The site's own files stay after the purge; empty folders do not.
touch /etc/blockjobd/tls/cert.pem
mkdir -p /var/lib/blockjobd/jobs
dpkg --purge blockjobd >/dev/null
[ -e /etc/blockjobd/tls/cert.pem ]
for gone in /var/lib/blockjobd /usr/lib/blockjobd /usr/bin/blockjobd /usr/bin/blockjob; do [ ! -e "$gone" ]; done
echo purged
