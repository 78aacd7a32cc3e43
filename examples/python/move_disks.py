#!/usr/bin/env python3
"""Moves disks of running VMs to other files, all at once, and watches all of the copies by one stream.

    move_disks.py ADDRESS BYTES_PER_SECOND DOMAIN DISK DESTINATION [DOMAIN DISK DESTINATION ...]

Prints each entry of the journals as a line of JSON, once and in order, whatever happens to the service meanwhile. The
speed limit is for each disk; 0: none. Needs what copy_disk.py needs.
"""

import json
import os
import sys
import time
import uuid

import grpc

sys.path.insert(0, os.environ.get("STUBS", os.path.join(os.path.dirname(__file__), "generated")))
from blockjob.v1 import block_job_service_pb2 as messages  # noqa: E402
from blockjob.v1 import block_job_service_pb2_grpc as services  # noqa: E402
from blockjob.v1.job_pb2 import Destination, DiskRef, Job, JobEvent, JobRef  # noqa: E402
from calls import PAUSE_SECONDS, explain, heard, is_away, until_it_answers  # noqa: E402


def say(text):
    print(text, file=sys.stderr, flush=True)


def watch(jobs, labels):
    """Yields the messages of a watch of the jobs that have these labels. It has no end, and loses nothing."""
    token = ""
    while True:
        try:
            for message in heard(jobs.WatchJobs(messages.WatchJobsRequest(label_filter=labels, resume_token=token))):
                yield message
                token = message.resume_token or token  # in a large fleet not each message has one
        except grpc.RpcError as error:
            if not is_away(error):
                raise
        say("the service is away; coming back with the token of the last message")
        time.sleep(PAUSE_SECONDS)


def start(jobs, labels, bandwidth, domain, disk, destination):
    """Returns the id of the job."""
    request = messages.StartCopyRequest(
        disk=DiskRef(domain=domain, disk=disk),
        destination=Destination(file=destination),
        bandwidth_bytes_per_second=int(bandwidth),
        labels=labels,
        request_id=str(uuid.uuid4()),
    )
    return until_it_answers(jobs.StartCopy, request).job.id


def pivot(jobs, job):
    """Answers at once, so that the other jobs need not wait: the watch tells how it ends."""
    request = messages.AbortRequest(
        job=JobRef(job_id=job.id), pivot=True, return_immediately=True, request_id=str(uuid.uuid4())
    )
    until_it_answers(jobs.Abort, request)


def main(address, bandwidth, *arguments):
    moves = [arguments[at : at + 3] for at in range(0, len(arguments), 3)]
    labels = {"batch": str(uuid.uuid4())}
    with grpc.insecure_channel(address) as channel:  # beyond one machine: grpc.secure_channel, with certificates
        jobs = services.BlockJobServiceStub(channel)
        unfinished = None  # the ids of the jobs, once they are started
        known = {}  # each job as its last event had it
        ready = set()
        for message in watch(jobs, labels):
            about = message.WhichOneof("about")
            if about == "complete" and unfinished is None:
                # Only now: the watch has begun, so it has the first entry of each job, too.
                unfinished = {start(jobs, labels, bandwidth, *move) for move in moves}
            elif about == "snapshot":
                known = {id: job for id, job in known.items() if job.host != message.snapshot.host}
            elif about == "unreachable":
                say(f"host {message.unreachable.host} does not answer; its jobs go on")
            elif about == "event":
                event, job = message.event, message.event.job
                if event.kind == JobEvent.KIND_PROGRESS:
                    say(f"{job.id}: {job.progress.percent:.1f} %")
                    continue
                if job.id in known and event.revision <= known[job.id].revision:
                    say(f"{job.id}: revision {event.revision} again")
                    continue
                known[job.id] = job
                kind, state = JobEvent.Kind.Name(event.kind), Job.State.Name(job.state)
                print(json.dumps({"job": job.id, "revision": event.revision, "kind": kind, "state": state}), flush=True)
                if job.state == Job.STATE_READY and job.id not in ready:
                    # From READY on each write of the guest goes to both sides, and the VM may be moved at any moment.
                    ready.add(job.id)
                    pivot(jobs, job)
                elif job.HasField("end_time"):
                    unfinished.remove(job.id)
                    say(f"{job.id}: the guest writes to {job.outcome.guest_writes_to or 'an unknown image'}")
                    if not unfinished:
                        break
        return 0 if all(job.state == Job.STATE_COMPLETED for job in known.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except grpc.RpcError as refused:
        explain(refused)
        say("jobs that were started go on")
        sys.exit(1)
