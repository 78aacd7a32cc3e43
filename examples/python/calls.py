"""The part of a client that each of its calls needs: patience while the service is away, and the reason of a refusal."""

import sys
import threading
import time

import grpc
from google.rpc import error_details_pb2, status_pb2

# A watch says something every 15 seconds, be it a heartbeat: when it is silent for longer, the way to it is broken.
SILENCE_SECONDS = 45
# Between two attempts to reach a service that is away.
PAUSE_SECONDS = 1


def is_away(error):
    """UNAVAILABLE: the service is restarting, or cannot be reached. It is not a "no", and the job goes on in QEMU.

    CANCELLED is what our own watchdog makes of a silent watch.
    """
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def until_it_answers(call, request):
    """Repeats a call while the service is away.

    Safe for calls that change something, since each has a request_id: what is repeated with the same id is done once,
    and gives the same answer.
    """
    while True:
        try:
            return call(request)
        except grpc.RpcError as error:
            if not is_away(error):
                raise
            print(f"not now: {error.details()}", file=sys.stderr, flush=True)
            time.sleep(PAUSE_SECONDS)


def heard(stream):
    """Yields the messages of a watch until it ends; one that is silent for too long is cancelled."""
    watchdog = threading.Timer(SILENCE_SECONDS, stream.cancel)
    watchdog.start()
    try:
        for message in stream:
            watchdog.cancel()
            yield message
            watchdog = threading.Timer(SILENCE_SECONDS, stream.cancel)
            watchdog.start()
    finally:
        watchdog.cancel()
        stream.cancel()


def explain(error):
    """Says why a call was refused: for people the text, for programs the reason, which is in a google.rpc.ErrorInfo."""
    print(f"refused: {error.details()}", file=sys.stderr)
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    print(f"reason {info.reason} {dict(info.metadata)}", file=sys.stderr)
