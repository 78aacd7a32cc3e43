#!/usr/bin/env bash
# copy-disk.sh ADDRESS DOMAIN DISK DESTINATION [BYTES_PER_SECOND]
#
# Copies a disk of a running VM, watches the copy whatever happens to the service, and moves the VM to it.
# ADDRESS is HOST:PORT. PROTO names the contract's folder. It takes buf and jq; grpcurl gives and takes the same JSON.
set -euo pipefail
address=$1 domain=$2 disk=$3 destination=$4 bandwidth=${5:-0}

# A watch says something every 15 seconds, be it a heartbeat: when it is silent for longer, the way to it is broken.
silence=45
# Between two attempts to reach a service that is away.
pause=1
unavailable=14
ended='^STATE_(COMPLETED|CANCELLED|FAILED|UNRESOLVED)$'
# What the last call that failed had to say.
complaint=$(mktemp)
trap 'rm -f "$complaint"' EXIT

# call RPC JSON - prints the answers; its status is gRPC's code. buf counts those in eighths. With grpcurl, which adds 64:
#   grpcurl -plaintext -import-path "$PROTO" -proto blockjob/v1/block_job_service.proto -d "$2" "$address" "blockjob.v1.$1"
call() {
    local status=0
    buf curl --schema "${PROTO:?the folder of the contract}" --protocol grpc --http2-prior-knowledge -d "$2" \
        "http://$address/blockjob.v1.$1" 2>"$complaint" || status=$?
    # Below 8 buf itself has failed: with 2, UNKNOWN, nobody tries again.
    [ "$status" = 0 ] || [ "$status" -ge 8 ] || status=16
    return $((status / 8))
}

# Repeats a call while the service is away: UNAVAILABLE is no "no", and jobs go on in QEMU. Safe for calls that change
# something, since each has a requestId: what is repeated with the same id is done once, and gives the same answer.
until_it_answers() {
    local status answer
    while true; do
        status=0
        answer=$(call "$@") || status=$?
        case $status in
        0) printf '%s\n' "$answer" && return ;;
        "$unavailable") echo "not now: $(jq -r .message "$complaint")" >&2 ;;
        *) explain && return 1 ;;
        esac
        sleep "$pause"
    done
}

# Why a call was refused: for people the text, for programs the reason, in a google.rpc.ErrorInfo. buf gives details as
# they come, in base64; grpcurl, with -format-error, as JSON.
explain() {
    local info
    jq -r '"refused: \(.message)"' "$complaint" 2>/dev/null || cat "$complaint"
    info=$(jq -r '.details[]? | select(.type == "google.rpc.ErrorInfo").value' "$complaint" 2>/dev/null) || return 0
    while [ $((${#info} % 4)) != 0 ]; do info+='='; done
    [ -z "$info" ] || base64 -d <<<"$info" |
        buf convert "$PROTO" --type google.rpc.ErrorInfo --from -#format=binpb --to -#format=json |
        jq -r '"reason \(.reason) \(.metadata)"'
} >&2

new_id() { cat /proc/sys/kernel/random/uuid; }

start=$(jq -n --arg domain "$domain" --arg disk "$disk" --arg file "$destination" --arg bandwidth "$bandwidth" \
    --arg id "$(new_id)" \
    '{disk: {$domain, $disk}, destination: {$file}, bandwidthBytesPerSecond: $bandwidth, requestId: $id}')
job=$(until_it_answers BlockJobService/StartCopy "$start" | jq -r .job.id)
echo "copy $job has started"

pivot=$(jq -n --arg jobId "$job" --arg id "$(new_id)" '{job: {$jobId}, pivot: true, requestId: $id}')
revision=0 state='' last=''
until [[ $state =~ $ended ]]; do
    # The job's journal from there on, each entry once and in order, and progress in between.
    watch=$(jq -n --arg jobId "$job" --arg afterRevision "$revision" '{job: {$jobId}, $afterRevision}')
    while read -r -t "$silence" event; do
        last=$event
        # Whatever a message is about, its revision is right to come back with.
        read -r revision kind state percent < <(
            jq -r '"\(.revision // 0) \(.kind) \(.job.state) \(.job.progress.percent // 0)"' <<<"$event"
        )
        case $kind in
        KIND_PROGRESS) printf '%.1f %%\n' "$percent" ;;
        KIND_HEARTBEAT) ;;
        *) echo "revision $revision: $state: $(jq -r .detail <<<"$event")" ;;
        esac
        if [ "$state" = STATE_READY ] && [ -n "$pivot" ]; then
            # From READY on each write of the guest goes to both sides, and the VM may be moved at any moment.
            until_it_answers BlockJobService/Abort "$pivot" >/dev/null
            pivot=''
        fi
    done < <(call BlockJobService/WatchJob "$watch" | jq --unbuffered -c .event)
    # The stream ends after the event that ends the job; else the service, or the way to it, is gone.
    [[ $state =~ $ended ]] || echo "the service is away; coming back after revision $revision"
    [[ $state =~ $ended ]] || sleep "$pause"
done

# What is true on disk. The state alone says less: a copy may be complete though the job was cancelled.
jq -r '.job | "\(.state): the guest writes to \(.outcome.guestWritesTo // "we do not know what")",
    "the destination is \(.outcome.destinationContent)",
    "start the VM next time with \(.outcome.nextStartPath // "what its configuration says")",
    (.outcome.safeToDelete // [] | .[] | "safe to delete: \(.path) (\(.warning // "at once"))")' <<<"$last"
[ "$state" = STATE_COMPLETED ]
