/**
 * A client that watches jobs as a platform does, in a process of its own:
 * `node watchers.ts ADDRESS CA KEY CERTIFICATE CONNECTIONS WATCHES JOB:REVISION...`, WATCHES on each connection, each of one of
 * the jobs from that revision on. Says "begun" on a line when each watch has had something, and when all have ended, as JSON, what
 * they have seen.
 */
import { readFileSync } from 'node:fs';
import { credentials, type ServiceError } from '@grpc/grpc-js';
import {
  BlockJobServiceClient,
  WatchJobRequest,
  type WatchJobResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import { JobEvent_Kind } from '../../generated/blockjob/v1/job.ts';

/** How many watches saw the same: "JOB to N" is all revisions from the asked one to N, each once and in order. */
export type WatchesSeen = Readonly<Record<string, number>>;

const LIVE: readonly JobEvent_Kind[] = [JobEvent_Kind.KIND_PROGRESS, JobEvent_Kind.KIND_HEARTBEAT];

const [address = '', ca = '', key = '', certificate = '', connections = '', watches = '', ...jobs] =
  process.argv.slice(2);
const channel = credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(certificate));

/** The revisions that came, and how it ended. */
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
