"""A client that shares no code with the service: Debian's python3-grpcio, and stubs that protoc made.

client.py STUBS TARGET copy DOMAIN DISK FILE   StartCopy, WatchJob, and Abort with pivot at READY
client.py STUBS TARGET refused                 StartCopy for each request of standard input (a JSON list)

Each thing that comes is printed as one line of JSON.
"""

import json
import os
import sys

stubs, target, command, *arguments = sys.argv[1:]
# Debian's protobuf owns the package `google` already; the stubs of google.rpc join it.
import google  # noqa: E402

google.__path__.append(os.path.join(stubs, "google"))
sys.path.insert(0, stubs)

import grpc  # noqa: E402
from google.protobuf import json_format  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from blockjob.v1 import block_job_service_pb2 as messages  # noqa: E402
from blockjob.v1 import block_job_service_pb2_grpc as services  # noqa: E402
from blockjob.v1 import job_pb2  # noqa: E402

DETAILS = "grpc-status-details-bin"


def show(kind, **what):
    print(json.dumps({"kind": kind, **what}), flush=True)


def copy(service, domain, disk, path):
    started = service.StartCopy(
        messages.StartCopyRequest(
            disk=job_pb2.DiskRef(domain=domain, disk=disk),
            destination=job_pb2.Destination(file=path),
        )
    ).job
    show("started", job=json_format.MessageToDict(started))
    ref = job_pb2.JobRef(job_id=started.id)
    asked = False
    for answer in service.WatchJob(messages.WatchJobRequest(job=ref, after_revision=0)):
        event = answer.event
        show(
            "event",
            revision=event.revision,
            type=job_pb2.JobEvent.Kind.Name(event.kind),
            state=job_pb2.Job.State.Name(event.job.state),
            event=json_format.MessageToDict(event),
        )
        if event.job.state == job_pb2.Job.STATE_READY and not asked:
            asked = True
            ended = service.Abort(messages.AbortRequest(job=ref, pivot=True)).job
            show("aborted", state=job_pb2.Job.State.Name(ended.state))
    show("end of the watch")


def refused(service):
    for request in json.load(sys.stdin):
        try:
            service.StartCopy(json_format.ParseDict(request, messages.StartCopyRequest()))
            show("accepted")
        except grpc.RpcError as error:
            trailers = error.trailing_metadata() or ()
            details = [value for key, value in trailers if key == DETAILS]
            rich = status_pb2.Status.FromString(details[0]) if details else status_pb2.Status()
            show(
                "refused",
                code=error.code().name,
                text=error.details(),
                details_bytes=sum(len(value) for value in details),
                message=rich.message,
                details=[unpack(detail) for detail in rich.details],
            )


def unpack(detail):
    name = detail.type_url.split(".")[-1]
    message = getattr(error_details_pb2, name)()
    if not detail.Unpack(message):
        raise ValueError(detail.type_url)
    return {"type": name, **json_format.MessageToDict(message)}


with grpc.insecure_channel(target) as channel:
    {"copy": copy, "refused": refused}[command](services.BlockJobServiceStub(channel), *arguments)
