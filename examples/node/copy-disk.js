#!/usr/bin/env node
/**
 * Copies a disk of a running VM, watches the copy, also if the service restarts, and moves the VM to the copy.
 *
 *     node copy-disk.js ADDRESS DOMAIN DISK DESTINATION [BYTES_PER_SECOND]
 *
 * ADDRESS is HOST:PORT or unix:/PATH. The client does the work that the other examples do themselves: it gives each
 * write a request_id, repeats calls while the service is away, and resumes a watch after the last revision.
 */
import { BlockJobClient, BlockJobError, DestinationContent, Job_State, JobEvent_Kind } from 'blockjobd-client';

/** The name of a value of an enum. */
const nameIn = (names, value) => Object.keys(names).find((name) => names[name] === value);

/** Prints what is on disk. The state alone does not say it: a copy may be complete although the job was cancelled. */
function tellOutcome({ state, outcome }) {
  console.log(`${nameIn(Job_State, state)}: the guest writes to ${outcome.guestWritesTo || 'an unknown image'}`);
  console.log(`the destination is ${nameIn(DestinationContent, outcome.destinationContent)}`);
  console.log(`start the VM next time with ${outcome.nextStartPath || 'what its configuration says'}`);
  for (const { path, warning } of outcome.safeToDelete) console.log(`safe to delete: ${path} (${warning || 'at once'})`);
}

async function main(address, domain, disk, destination, bandwidth = '0') {
  using client = new BlockJobClient({ address, patienceMs: Infinity }); // for another machine: tls, with certificates
  const { job: started } = await client.startCopy({
    disk: { domain, disk },
    destination: { target: { $case: 'file', value: destination } },
    bandwidthBytesPerSecond: BigInt(bandwidth),
  });
  console.log(`copy ${started.id} has started`);

  const ref = { name: { $case: 'jobId', value: started.id } };
  let job = started;
  let revision = 0n;
  let asked = false;
  const onRetry = () => console.log(`the service is away; coming back after revision ${revision}`);
  for await (const event of client.watchJob({ job: ref, afterRevision: 0n }, { onRetry })) {
    ({ job, revision } = event);
    if (event.kind === JobEvent_Kind.KIND_PROGRESS) console.log(`${job.progress.percent.toFixed(1)} %`);
    else if (event.kind !== JobEvent_Kind.KIND_HEARTBEAT)
      console.log(`revision ${revision}: ${nameIn(Job_State, job.state)}: ${event.detail}`);
    if (job.state === Job_State.STATE_READY && !asked) {
      // Once the job is READY, each write of the guest goes to both images, and the VM can be moved at any time.
      asked = true;
      await client.abort({ job: ref, pivot: true });
    }
  }
  tellOutcome(job);
  return job.state === Job_State.STATE_COMPLETED ? 0 : 1;
}

try {
  process.exitCode = await main(...process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BlockJobError)) throw error;
  // The text is for people. The reason, from a google.rpc.ErrorInfo, is for programs.
  console.log(`refused: ${error.message}`);
  console.log(`reason ${error.reason}`, error.metadata);
  process.exitCode = 1;
}
