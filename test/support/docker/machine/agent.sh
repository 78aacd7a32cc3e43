#!/bin/sh
# agent.sh OPTION… - starts the host's agent, which logs to /var/log/blockjobd, and leaves its process id.
set -eu
node /opt/blockjobd/src/main.ts agent --qmp-dir /run/qemu --allow-destination /var/lib/images "$@" \
    >>/var/log/blockjobd/out 2>>/var/log/blockjobd/log </dev/null &
echo $! >/run/agent.pid
