#!/usr/bin/env node
/**
 * Moves disks of running VMs to other files, all at once, and watches all of the copies by one stream.
 *
 *     node move-disks.js ADDRESS BYTES_PER_SECOND DOMAIN DISK DESTINATION [DOMAIN DISK DESTINATION ...]
 *
 * Prints each entry of the journals as a line of JSON, once and in order, whatever happens to the service meanwhile. The
 * speed limit is for each disk; 0: none. The client does the work that the other examples do themselves: it keeps the
 * token, resumes the watch with it, and drops entries that it has already had.
 */
import { randomUUID } from 'node:crypto';
import { BlockJobClient, BlockJobError, Job_State, JobEvent_Kind } from 'blockjobd-client';

/** The name of an enum's value. */
const nameIn = (names, value) => Object.keys(names).find((name) => names[name] === value);

const onRetry = () => console.error('the service is away; coming back with the token of the last message');

async function main(address, bandwidth, ...rest) {
  using client = new BlockJobClient({ address, patienceMs: Infinity }); // beyond one machine: tls, with certificates
  const moves = Array.from({ length: rest.length / 3 }, (_, at) => rest.slice(at * 3, at * 3 + 3));
  const labels = { batch: randomUUID() };
  /** The ids of the jobs, once they are started. */
  let unfinished;
  const ready = new Set();
  let allMoved = true;

  const start = async ([domain, disk, destination]) => {
    const { job } = await client.startCopy({
      disk: { domain, disk },
      destination: { target: { $case: 'file', value: destination } },
      bandwidthBytesPerSecond: BigInt(bandwidth),
      labels,
    });
    return job.id;
  };
  for await (const { about } of client.watchJobs({ labelFilter: labels }, { onRetry })) {
    if (about?.$case === 'complete') {
      // Only now: the watch has begun, so it has the first entry of each job, too.
      unfinished ??= new Set(await Promise.all(moves.map(start)));
    } else if (about?.$case === 'unreachable') {
      console.error(`host ${about.value.host} does not answer; its jobs go on`);
    } else if (about?.$case === 'event') {
      const { revision, kind, job } = about.value;
      if (kind === JobEvent_Kind.KIND_PROGRESS) {
        console.error(`${job.id}: ${job.progress.percent.toFixed(1)} %`);
        continue;
      }
      const names = { kind: nameIn(JobEvent_Kind, kind), state: nameIn(Job_State, job.state) };
      console.log(JSON.stringify({ job: job.id, revision: Number(revision), ...names }));
      if (job.state === Job_State.STATE_READY && !ready.has(job.id)) {
        // From READY on each write of the guest goes to both sides, and the VM may be moved at any moment. Answered at
        // once, so that the other jobs need not wait: the watch tells how it ends.
        ready.add(job.id);
        await client.abort({ job: { name: { $case: 'jobId', value: job.id } }, pivot: true, returnImmediately: true });
      } else if (job.endTime !== undefined) {
        unfinished.delete(job.id);
        allMoved &&= job.state === Job_State.STATE_COMPLETED;
        console.error(`${job.id}: the guest writes to ${job.outcome.guestWritesTo || 'an unknown image'}`);
        if (unfinished.size === 0) break;
      }
    }
  }
  return allMoved ? 0 : 1;
}

try {
  process.exitCode = await main(...process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BlockJobError)) throw error;
  // For people the text, for programs the reason, which is in a google.rpc.ErrorInfo.
  console.error(`refused: ${error.message}`);
  console.error(`reason ${error.reason}`, error.metadata, '; jobs that were started go on');
  process.exitCode = 1;
}
