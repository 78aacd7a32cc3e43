#!/usr/bin/env bash
# copy-disk.sh ADDRESS DOMAIN DISK DESTINATION [BYTES_PER_SECOND]
#
# Copies a disk of a running VM, watches the copy, also if the service restarts, and moves the VM to the copy.
# ADDRESS is HOST:PORT. PROTO names the folder of the contract. It needs buf and jq. grpcurl uses the same JSON as buf.
set -euo pipefail
address=$1 domain=$2 disk=$3 destination=$4 bandwidth=${5:-0}

# A watch sends a message at least every 15 seconds, if only a heartbeat. After a longer silence the connection is
# broken.
silence=45
# The pause between two attempts to reach the service.
pause=1
unavailable=14
ended='^STATE_(COMPLETED|CANCELLED|FAILED|UNRESOLVED)$'
# The error of the last call that failed.
complaint=$(mktemp)
trap 'rm -f "$complaint"' EXIT

# call RPC JSON - prints the answers. Its status is the gRPC code; buf exits with 8 times the code. With grpcurl, which
# exits with the code plus 64:
#   grpcurl -plaintext -import-path "$PROTO" -proto blockjob/v1/block_job_service.proto -d "$2" "$address" "blockjob.v1.$1"
call() {
    local status=0
    buf curl --schema "${PROTO:?the folder of the contract}" --protocol grpc --http2-prior-knowledge -d "$2" \
        "http://$address/blockjob.v1.$1" 2>"$complaint" || status=$?
    # A status below 8 is a failure of buf itself. It becomes 2 (UNKNOWN), which is not repeated.
    [ "$status" = 0 ] || [ "$status" -ge 8 ] || status=16
    return $((status / 8))
}

# Repeats a call while the service is away: UNAVAILABLE is not a refusal, and jobs continue in QEMU. This is safe for
# writes, because each has a requestId: a repeated request with the same id is done once, and gets the same answer.
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

# Prints why a call was refused. The text is for people. The reason, from a google.rpc.ErrorInfo, is for programs. buf
# prints details in base64; grpcurl, with -format-error, as JSON.
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
    # The entries of the job's journal after that revision, each once and in order, and progress in between.
    watch=$(jq -n --arg jobId "$job" --arg afterRevision "$revision" '{job: {$jobId}, $afterRevision}')
    while read -r -t "$silence" event; do
        last=$event
        # A watch can be resumed from the revision of any message.
        read -r revision kind state percent < <(
            jq -r '"\(.revision // 0) \(.kind) \(.job.state) \(.job.progress.percent // 0)"' <<<"$event"
        )
        case $kind in
        KIND_PROGRESS) printf '%.1f %%\n' "$percent" ;;
        KIND_HEARTBEAT) ;;
        *) echo "revision $revision: $state: $(jq -r .detail <<<"$event")" ;;
        esac
        if [ "$state" = STATE_READY ] && [ -n "$pivot" ]; then
            # Once the job is READY, each write of the guest goes to both images, and the VM can be moved at any time.
            until_it_answers BlockJobService/Abort "$pivot" >/dev/null
            pivot=''
        fi
    done < <(call BlockJobService/WatchJob "$watch" | jq --unbuffered -c .event)
    # The stream ends after the event that ends the job. If it ends earlier, the service or the connection is gone.
    [[ $state =~ $ended ]] || echo "the service is away; coming back after revision $revision"
    [[ $state =~ $ended ]] || sleep "$pause"
done

# Prints what is on disk. The state alone does not say it: a copy may be complete although the job was cancelled.
jq -r '.job | "\(.state): the guest writes to \(.outcome.guestWritesTo // "an unknown image")",
    "the destination is \(.outcome.destinationContent)",
    "start the VM next time with \(.outcome.nextStartPath // "what its configuration says")",
    (.outcome.safeToDelete // [] | .[] | "safe to delete: \(.path) (\(.warning // "at once"))")' <<<"$last"
[ "$state" = STATE_COMPLETED ]
