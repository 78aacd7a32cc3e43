/**
 * Clients that watch all jobs, in a process of their own: `node jobs-watchers.ts ADDRESS WATCHERS JOBS`. Prints "begun"
 * when each is complete. When each has seen JOBS jobs end, it prints as JSON how many watchers have seen each result.
 */
import { BlockJobClient, hasEnded } from '../../src/client/index.ts';
import { IS_LIVE } from '../../src/client/watch.ts';

/** "JOBS whole" means each revision of this number of jobs, from 1 to its end, once and in order. */
export type Seen = Readonly<Record<string, number>>;

const [address = '', watchers = '', jobs = ''] = process.argv.slice(2);

async function watch(begun: () => void): Promise<string> {
  using client = new BlockJobClient({ address, patienceMs: 120_000 });
  const last = new Map<string, bigint>();
  const compacted: string[] = [];
  let over = 0;
  for await (const { about } of client.watchJobs({ progressInterval: { seconds: 3600n } })) {
    if (about?.$case === 'complete') begun();
    if (about?.$case === 'snapshot' && about.value.compacted) compacted.push(about.value.text);
    if (about?.$case !== 'event' || about.value.job === undefined || IS_LIVE[about.value.kind]) continue;
    const { revision, job } = about.value;
    const before = last.get(job.id) ?? 0n;
    if (revision !== before + 1n) return `${job.id}: ${revision} after ${before}; ${compacted.join()}`;
    last.set(job.id, revision);
    if (hasEnded(job.state)) over += 1;
    if (over === Number(jobs)) return compacted.length === 0 ? `${last.size} whole` : compacted.join();
  }
  return `the stream has ended after ${last.size}`;
}

const firsts: Promise<void>[] = [];
const ends = Array.from({ length: Number(watchers) }, async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  firsts.push(promise);
  return await watch(resolve);
});
await Promise.all(firsts);
process.stdout.write('begun\n');
const seen: Record<string, number> = {};
for (const what of await Promise.all(ends)) seen[what] = (seen[what] ?? 0) + 1;
process.stdout.write(`${JSON.stringify(seen satisfies Seen)}\n`);
