#!/usr/bin/env python3
"""Copies a disk of a running VM, watches the copy, also if the service restarts, and moves the VM to the copy.

    copy_disk.py ADDRESS DOMAIN DISK DESTINATION [BYTES_PER_SECOND]

ADDRESS is HOST:PORT or unix:/PATH. The stubs in generated/ are made by generate.sh. Debian's python3-grpcio and
python3-protobuf are enough to run it; with pip, grpcio and protobuf are.
"""

import os
import sys
import time
import uuid

import grpc

sys.path.insert(0, os.environ.get("STUBS", os.path.join(os.path.dirname(__file__), "generated")))
from blockjob.v1 import block_job_service_pb2 as messages  # noqa: E402
from blockjob.v1 import block_job_service_pb2_grpc as services  # noqa: E402
from blockjob.v1.job_pb2 import Destination, DestinationContent, DiskRef, Job, JobEvent, JobRef  # noqa: E402
from calls import PAUSE_SECONDS, explain, heard, is_away, until_it_answers  # noqa: E402

# These two kinds are not entries of the job's journal: they carry the revision of the entry before them.
NO_ENTRY = (JobEvent.KIND_PROGRESS, JobEvent.KIND_HEARTBEAT)


def say(text):
    print(text, flush=True)


def watch(jobs, job):
    """Yields every entry of the job's journal once and in order, and progress in between, until the job has ended."""
    revision = 0
    while True:
        try:
            for answer in heard(jobs.WatchJob(messages.WatchJobRequest(job=job, after_revision=revision))):
                revision = answer.event.revision  # the next watch can resume after it
                yield answer.event
            return  # the server ends the stream after the event that ends the job
        except grpc.RpcError as error:
            if not is_away(error):
                raise
            say(f"the service is away; coming back after revision {revision}")
            time.sleep(PAUSE_SECONDS)


def tell_outcome(job):
    """Prints what is on disk. The state does not say it: a copy may be complete although the job was cancelled."""
    outcome = job.outcome
    say(f"{Job.State.Name(job.state)}: the guest writes to {outcome.guest_writes_to or 'an unknown image'}")
    say(f"the destination is {DestinationContent.Name(outcome.destination_content)}")
    say(f"start the VM next time with {outcome.next_start_path or 'what its configuration says'}")
    for file in outcome.safe_to_delete:
        say(f"safe to delete: {file.path}" + (f" ({file.warning})" if file.warning else ""))


def main(address, domain, disk, destination, bandwidth="0"):
    with grpc.insecure_channel(address) as channel:  # beyond one machine: grpc.secure_channel, with certificates
        jobs = services.BlockJobServiceStub(channel)
        start = messages.StartCopyRequest(
            disk=DiskRef(domain=domain, disk=disk),
            destination=Destination(file=destination),
            bandwidth_bytes_per_second=int(bandwidth),
            request_id=str(uuid.uuid4()),
        )
        job = until_it_answers(jobs.StartCopy, start).job
        say(f"copy {job.id} has started")

        ref = JobRef(job_id=job.id)
        pivot = messages.AbortRequest(job=ref, pivot=True, request_id=str(uuid.uuid4()))
        asked = False
        for event in watch(jobs, ref):
            job = event.job
            if event.kind == JobEvent.KIND_PROGRESS:
                say(f"{job.progress.percent:.1f} %")
            elif event.kind not in NO_ENTRY:
                say(f"revision {event.revision}: {Job.State.Name(job.state)}: {event.detail}")
            if job.state == Job.STATE_READY and not asked:
                # From READY on each write of the guest goes to both sides, and the VM may be moved at any moment.
                asked = True
                until_it_answers(jobs.Abort, pivot)
        tell_outcome(job)
        return 0 if job.state == Job.STATE_COMPLETED else 1


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except grpc.RpcError as refused:
        explain(refused)
        sys.exit(1)
