/** The number of times that events are encoded: once for each service, not for each watcher. */
import { credentials } from '@grpc/grpc-js';
import { pino } from 'pino';
import { afterEach, expect, it, vi } from 'vitest';
import { BlockJobServiceService, WatchJobResponse } from '../../../generated/blockjob/v1/block_job_service.ts';
import { Guarded } from '../../../src/access/guarded.ts';
import { Policy } from '../../../src/access/policy.ts';
import { WatchedJob } from '../../../src/agent/desk/watched-job.ts';
import { JobLog } from '../../../src/agent/journal/job-log.ts';
import type { BlockJobs, Call } from '../../../src/core/block-jobs.ts';
import { type JobView, publicJob } from '../../../src/core/job/job-view.ts';
import { NO_HISTORY, observe, type Progress } from '../../../src/core/job/progress.ts';
import type { WatchRequest } from '../../../src/core/requests.ts';
import { SharedWatch } from '../../../src/fleet/gateway/shared-watch.ts';
import { Remote } from '../../../src/grpc/remote/remote.ts';
import { serve } from '../../../src/grpc/server.ts';
import type { Feed } from '../../../src/watch/feed.ts';
import { Watches } from '../../../src/watch/watches.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { journalsIn } from '../../support/service/journals.ts';
import { INFO } from '../../support/service/stub-server.ts';
import { ACCEPTED, JOB, OUTCOME, READY, RUNNING } from '../core/stories.ts';

const MANY = 20;
const log = pino({ level: 'silent' });
const SAMPLE = { atMs: 0, time: '2026-01-01T00:00:00.000Z', offsetBytes: 10, lengthBytes: 100, ready: false };
const AT_TEN = observe(NO_HISTORY, SAMPLE).progress;
const ALL = { job: { jobId: JOB }, afterRevision: 0, progressIntervalMs: undefined };

/** All that a service needs for its watches. */
function watching(viewNow: () => JobView, open: () => Feed): BlockJobs {
  const watches = new Watches(MANY);
  const shown = async () => await Promise.resolve(viewNow());
  const watch = (request: WatchRequest, call: Call) => watches.watch({ known: viewNow(), shown }, open, request, call);
  return { getInfo: shown, watch } as unknown as BlockJobs;
}

/** As with a policy that limits watchers. */
function guarded(jobs: BlockJobs): BlockJobs {
  const now = Policy.read(JSON.stringify({ callers: { me: { read: ['*'] } } }));
  if (typeof now === 'string') throw new Error(now);
  const inner = new Guarded(jobs, { now, onChange: () => ({ [Symbol.dispose]: () => undefined }) });
  const watch = (request: WatchRequest, call: Call) => inner.watch(request, { ...call, caller: 'me' });
  return { watch } as unknown as BlockJobs;
}

async function seenBy(remote: Remote, onEach: () => void): Promise<string[]> {
  const seen: string[] = [];
  for await (const { type, job } of remote.watch(ALL, { signal: new AbortController().signal })) {
    seen.push(`${type} ${job.revision}`);
    onEach();
  }
  return seen;
}

afterEach(() => {
  vi.restoreAllMocks();
});

it('happens once at the agent and once at a gateway, for all watchers together', async () => {
  await using opened = new AsyncDisposableStack();
  const { path: dir } = opened.use(await testDir());
  const journal = await JobLog.begin(journalsIn(dir), ACCEPTED);
  opened.defer(async () => await journal.close());
  await journal.append(RUNNING);
  let progress: Progress | undefined;
  const told = { of: () => progress, poll: () => ({ [Symbol.dispose]: () => undefined }) };
  const watched = new WatchedJob(journal, told);

  const serving = async (name: string, jobs: BlockJobs) => {
    const server = await serve(guarded(jobs), { info: INFO, listen: { unixSocket: `${dir}/${name}` }, log });
    opened.defer(async () => await server.drain(0));
    const { address } = server;
    return opened.use(new Remote({ host: name, address, credentials: credentials.createInsecure() }));
  };
  const viewNow = () => ({ job: publicJob(journal.job), progress });
  const agent = await serving(
    'agent',
    watching(viewNow, () => watched),
  );
  const shared = () => new SharedWatch(JOB, async () => await Promise.resolve(agent));
  const gateway = await serving('gateway', watching(viewNow, shared));

  const encode = vi.spyOn(BlockJobServiceService.watchJob, 'responseSerialize');
  let count = 0;
  const reached: { readonly count: number; readonly resolve: () => void }[] = [];
  const onEach = () => {
    count += 1;
    for (const { resolve } of reached.filter((one) => one.count <= count)) resolve();
  };
  const all = 2 * MANY - 1;
  const until = async (each: number) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    reached.push({ count: each * all, resolve });
    await promise;
  };
  const watchers = Array.from(
    { length: all },
    async (_, index) =>
      // The gateway is one of the watchers at the agent.
      await seenBy(index < MANY - 1 ? agent : gateway, onEach),
  );
  await until(2);
  progress = AT_TEN;
  watched.sampled();
  await until(3);
  await journal.append(READY);
  await until(4);
  await journal.append({ entry: 'ended', state: 'FAILED', failure: undefined, outcome: OUTCOME });

  const expected = ['STATE 1', 'STATE 2', 'PROGRESS 2', 'STATE 3', 'STATE 4'];
  expect(await Promise.all(watchers)).toEqual(watchers.map(() => expected));
  const encoded = encode.mock.calls.map(([{ event }]) => WatchJobResponse.toJSON({ event }));
  expect(encoded).toHaveLength(2 * expected.length);
});
