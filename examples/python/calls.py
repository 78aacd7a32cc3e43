"""The parts of a client that each call needs: it repeats the call while the service is away, and prints why a call was
refused."""

import sys
import threading
import time

import grpc
from google.rpc import error_details_pb2, status_pb2

# A watch sends a message at least every 15 seconds, if only a heartbeat. After a longer silence the connection is
# broken.
SILENCE_SECONDS = 45
# The pause between two attempts to reach the service.
PAUSE_SECONDS = 1


def is_away(error):
    """Whether the service is restarting or cannot be reached. That is not a refusal, and the job continues in QEMU.

    CANCELLED is the code of a silent watch that our own watchdog has cancelled.
    """
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def until_it_answers(call, request):
    """Repeats a call while the service is away.

    This is safe for writes, because each has a request_id: a repeated request with the same id is done once, and gets
    the same answer.
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
    """Yields the messages of a watch until it ends. Cancels a watch that is silent for too long."""
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
    """Prints the text of a refusal, for people, and its reason (from a google.rpc.ErrorInfo), for programs."""
    print(f"refused: {error.details()}", file=sys.stderr)
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    print(f"reason {info.reason} {dict(info.metadata)}", file=sys.stderr)
