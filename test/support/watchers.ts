/**
 * A client that watches jobs as a platform does, in a process of its own: `node watchers.ts ADDRESS CA KEY CERTIFICATE
 * CONNECTIONS WATCHES JOB:REVISION...`, with WATCHES on each connection, each for one of the jobs from that revision
 * on. Prints the line "begun" when each watch has got a message. When all have ended, it prints their results as JSON.
 */
import { readFileSync } from 'node:fs';
import { credentials, type ServiceError } from '@grpc/grpc-js';
import {
  BlockJobServiceClient,
  WatchJobRequest,
  type WatchJobResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import { JobEvent_Kind } from '../../generated/blockjob/v1/job.ts';

/**
 * The number of watches with the same result: "JOB to N" means all revisions from the requested one to N, each once and
 * in order.
 */
export type WatchesSeen = Readonly<Record<string, number>>;

const LIVE: readonly JobEvent_Kind[] = [JobEvent_Kind.KIND_PROGRESS, JobEvent_Kind.KIND_HEARTBEAT];

const [address = '', ca = '', key = '', certificate = '', connections = '', watches = '', ...jobs] =
  process.argv.slice(2);
const channel = credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(certificate));

/** Returns the revisions, and the end of the watch. */
async function watch(client: BlockJobServiceClient, asked: string, begun: () => void) {
  const [job = '', first = ''] = asked.split(':');
  const request = WatchJobRequest.fromPartial({
    job: { name: { $case: 'jobId', value: job } },
    afterRevision: BigInt(first) - 1n,
    progressInterval: { seconds: 3600n },
  });
  const revisions: bigint[] = [];
  let error = '';
  try {
    for await (const { event } of client.watchJob(request) as AsyncIterable<WatchJobResponse>) {
      begun();
      if (event !== undefined && !LIVE.includes(event.kind)) revisions.push(event.revision);
    }
  } catch (thrown) {
    error = (thrown as ServiceError).message;
    begun();
  }
  return { job, first: BigInt(first), revisions, error };
}

const all = Array.from({ length: Number(connections) }, () => {
  const client = new BlockJobServiceClient(address, channel, { 'grpc.use_local_subchannel_pool': 1 });
  return Array.from({ length: Number(watches) }, () => client);
}).flat();
const firsts: Promise<void>[] = [];
const ends = all.map(async (client, at) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  firsts.push(promise);
  return await watch(client, jobs[at % jobs.length] ?? '', resolve);
});
await Promise.all(firsts);
process.stdout.write('begun\n');

const seen: Record<string, number> = {};
for (const { job, first, revisions, error } of await Promise.all(ends)) {
  const isWhole = error === '' && revisions.every((revision, at) => revision === first + BigInt(at));
  const what = isWhole ? `${job} to ${revisions.at(-1)}` : `[${revisions.join()}] ${error}`;
  seen[what] = (seen[what] ?? 0) + 1;
}
for (const client of new Set(all)) client.close();
process.stdout.write(`${JSON.stringify(seen satisfies WatchesSeen)}\n`);
