/** The faults that a watch survives, without any message about them. */
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { BlockJobClient, BlockJobError, type JobEvent, JobEvent_Kind, type Retry } from '../../../src/client/index.ts';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import { type RunningServer, serve } from '../../../src/grpc/server.ts';
import { Overflows } from '../../support/fake-qemu/overflows.ts';
import { ScriptedJob } from '../../support/fake-qemu/scripted-job.ts';
import { TcpProxy } from '../../support/hostile/tcp-proxy.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { INFO, serving } from '../../support/service/stub-server.ts';

const JOB = { name: { $case: 'jobId', value: 'bj1' } } as const;
const DISK = { name: { $case: 'disk', value: { domain: 'vm1', disk: 'vd0' } } } as const;

const named = ({ kind, revision }: JobEvent) => `${kind} ${revision}`;
const name = (type: keyof typeof JobEvent_Kind, revision: number) => `${JobEvent_Kind[type]} ${revision}`;
/** The entries from one revision to another. */
function states(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, index) => name('KIND_STATE', from + index));
}

/** Reads until a revision has come. */
async function through(watch: AsyncGenerator<JobEvent>, revision: number, events: JobEvent[]): Promise<void> {
  for (;;) {
    const { value, done } = await watch.next();
    if (done === true) throw new Error(`the watch ended before revision ${revision}`);
    events.push(value);
    if (value.revision === BigInt(revision)) return;
  }
}

async function rest(watch: AsyncGenerator<JobEvent>, events: JobEvent[] = []): Promise<string[]> {
  for await (const event of watch) events.push(event);
  return events.map(named);
}

describe.concurrent('a watch', () => {
  it('begins with the job as it is, shows each revision, and ends with the job', async () => {
    const job = new ScriptedJob();
    await using server = await serving('unix', { watch: job.watch });
    using client = new BlockJobClient({ address: server.address });
    const events: JobEvent[] = [];
    const watch = client.watchJob({ job: JOB });
    await through(watch, 1, events);
    job.grow(6);
    expect(await rest(watch, events)).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 6)]);
    await job.opened(0);
  });

  it('of an ended job shows it, and the requested revisions, and ends', async () => {
    const job = new ScriptedJob();
    job.grow(6);
    await using server = await serving('unix', { watch: job.watch });
    using client = new BlockJobClient({ address: server.address });
    expect(await rest(client.watchJob({ job: JOB }))).toEqual([name('KIND_SNAPSHOT', 6)]);
    expect(await rest(client.watchJob({ job: JOB, afterRevision: 3n }))).toEqual(states(4, 6));
    expect(await rest(client.watchJob({ job: JOB, afterRevision: 6n }))).toEqual([]);
  });

  it('continues after the last revision when the connection is reset', async () => {
    const job = new ScriptedJob();
    await using server = await serving('tcp', { watch: job.watch });
    await using line = await TcpProxy.to(portOf(server));
    const retries: Retry[] = [];
    using client = new BlockJobClient({ address: `127.0.0.1:${line.port}`, onRetry: (retry) => retries.push(retry) });
    const events: JobEvent[] = [];
    const watch = client.watchJob({ job: DISK });
    await through(watch, 1, events);
    job.grow(3);
    await through(watch, 3, events);
    line.cut();
    await job.opened(0);
    job.grow(4);
    line.pass();
    await through(watch, 4, events);
    job.grow(6);
    expect(await rest(watch, events)).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 6)]);
    expect(retries[0]?.error.code).toBe('UNAVAILABLE');
    expect(retries[0]?.address).toBe(client.address);
    // The disk was named once: it may have another job by now.
    const id = events[0]?.job?.id ?? '';
    expect(job.asked.map((one) => one.job)).toEqual([{ disk: { domain: 'vm1', disk: 'vd0' } }, { jobId: id }]);
    expect(job.asked.map((one) => one.afterRevision)).toEqual([undefined, 3]);
  });

  it('continues when the server was ended and started again', async () => {
    const job = new ScriptedJob();
    await using dir = await testDir('bj-client-');
    await using home = new Home(`${dir.path}/api.sock`, { watch: job.watch });
    await home.start();
    using client = new BlockJobClient({ address: `unix:${home.path}` });
    const events: JobEvent[] = [];
    const watch = client.watchJob({ job: JOB });
    await through(watch, 1, events);
    await home.stop();
    job.grow(5);
    const next = through(watch, 5, events);
    await home.start();
    await next;
    job.grow(6);
    expect(await rest(watch, events)).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 6)]);
  });

  it('continues at the next address when the first one is killed, and at the first when the next one is', async () => {
    const job = new ScriptedJob(9);
    await using server = await serving('tcp', { watch: job.watch });
    await using first = await TcpProxy.to(portOf(server));
    await using second = await TcpProxy.to(portOf(server));
    const at = [first, second].map(({ port }) => `127.0.0.1:${port}`);
    using client = new BlockJobClient({ address: at });
    const events: JobEvent[] = [];
    const watch = client.watchJob({ job: JOB });
    await through(watch, 1, events);
    expect(client.address).toBe(at[0]);
    job.grow(3);
    first.cut();
    await through(watch, 3, events);
    expect(client.address).toBe(at[1]);
    first.pass();
    job.grow(5);
    second.cut();
    await through(watch, 5, events);
    job.grow(9);
    expect(await rest(watch, events)).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 9)]);
    expect(client.address).toBe(at[0]);
  });

  it('finds a connection that is silently dead', async () => {
    const job = new ScriptedJob();
    await using server = await serving('tcp', { watch: job.watch });
    await using first = await TcpProxy.to(portOf(server));
    using client = new BlockJobClient({ address: [`127.0.0.1:${first.port}`, server.address] });
    const events: JobEvent[] = [];
    const watch = client.watchJob({ job: JOB });
    await through(watch, 1, events);
    first.hole();
    job.grow(6);
    expect(await rest(watch, events)).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 6)]);
  });

  it('leaves a server that sends nothing, not even heartbeats', async () => {
    const job = new ScriptedJob();
    const mute = new ScriptedJob();
    await using silent = await serving('unix', { watch: mute.watch });
    await using server = await serving('unix', { watch: job.watch });
    using client = new BlockJobClient({ address: [silent.address, server.address] });
    job.grow(6);
    const events = await rest(client.watchJob({ job: JOB }, { silenceMs: 1000 }));
    expect(events).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 6)]);
    await mute.opened(0);
  });

  it.each([Infinity, 2 ** 31])('waits as long as the options say, for silence and altogether: %d ms', async (ms) => {
    const job = new ScriptedJob();
    await using server = await serving('unix', { watch: job.watch });
    using client = new BlockJobClient({ address: server.address });
    using overflows = new Overflows();
    const events: JobEvent[] = [];
    const watch = client.watchJob({ job: JOB }, { silenceMs: ms, timeoutMs: ms });
    await through(watch, 1, events);
    job.grow(6);
    expect(await rest(watch, events)).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 6)]);
    expect(job.asked.length).toBe(1);
    expect(overflows.seen).toEqual([]);
  });

  it('is not silent because its reader is slow', async () => {
    const job = new ScriptedJob();
    await using server = await serving('unix', { watch: job.watch });
    using client = new BlockJobClient({ address: server.address });
    const watch = client.watchJob({ job: JOB }, { silenceMs: 2000 });
    const events: JobEvent[] = [];
    await through(watch, 1, events);
    await new Promise((resolve) => {
      setTimeout(resolve, 2500);
    });
    job.grow(6);
    expect(await rest(watch, events)).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 6)]);
    expect(job.asked.length).toBe(1);
  });

  it('continues at once elsewhere when the agent behind a gateway is down', async () => {
    const job = new ScriptedJob();
    await using one = await serving('unix', { watch: job.watch });
    await using other = await serving('unix', { watch: job.watch });
    const retries: Retry[] = [];
    using client = new BlockJobClient({ address: [one.address, other.address], onRetry: (r) => retries.push(r) });
    const events: JobEvent[] = [];
    const watch = client.watchJob({ job: JOB });
    await through(watch, 1, events);
    job.break();
    job.grow(6);
    expect(await rest(watch, events)).toEqual([name('KIND_SNAPSHOT', 1), ...states(2, 6)]);
    expect(retries.map(({ error, delayMs }) => [error.reason, error.retryDelayMs, delayMs])).toEqual([
      ['HOST_UNREACHABLE', 1000, 0],
    ]);
  });

  it('reports once which entries are not kept any more, and continues after them', async () => {
    const job = new ScriptedJob();
    job.grow(5);
    job.oldest = 4;
    await using server = await serving('unix', { watch: job.watch });
    using client = new BlockJobClient({ address: server.address });
    const events: JobEvent[] = [];
    const watch = client.watchJob({ job: JOB, afterRevision: 0n });
    await through(watch, 4, events);
    job.break();
    job.grow(6);
    expect(await rest(watch, events)).toEqual([name('KIND_COMPACTED', 3), ...states(4, 6)]);
  });

  it('drops repeated and older events', async () => {
    const job = new ScriptedJob();
    const again: BlockJobs['watch'] = async function* again() {
      yield* [job.event('SNAPSHOT', 3), job.event('STATE', 3), job.event('HEARTBEAT', 2), job.event('PROGRESS', 3)];
      yield* [job.event('STATE', 4), job.event('STATE', 4), job.event('STATE', 5), job.event('STATE', 6)];
    };
    await using server = await serving('unix', { watch: again });
    using client = new BlockJobClient({ address: server.address });
    expect(await rest(client.watchJob({ job: JOB }))).toEqual([
      name('KIND_SNAPSHOT', 3),
      name('KIND_PROGRESS', 3),
      ...states(4, 6),
    ]);
  });

  it('does not hide a hole', async () => {
    const job = new ScriptedJob();
    const hole: BlockJobs['watch'] = async function* hole() {
      yield* [job.event('SNAPSHOT', 1), job.event('STATE', 3)];
    };
    await using server = await serving('unix', { watch: hole });
    using client = new BlockJobClient({ address: server.address });
    await expect(rest(client.watchJob({ job: JOB }))).rejects.toMatchObject({ code: 'DATA_LOSS' });
  });

  it('ends with the last error when its patience is over', async () => {
    const job = new ScriptedJob();
    await using server = await serving('tcp', { watch: job.watch });
    await using line = await TcpProxy.to(portOf(server));
    using client = new BlockJobClient({ address: `127.0.0.1:${line.port}` });
    const watch = client.watchJob({ job: JOB }, { patienceMs: 300 });
    await through(watch, 1, []);
    line.cut();
    const error: unknown = await watch.next().catch((one: unknown) => one);
    expect(error).toBeInstanceOf(BlockJobError);
    expect(error).toMatchObject({ code: 'UNAVAILABLE', isAnswer: false, mayHaveHappened: false });
  });

  it('ends with a refusal at once', async () => {
    await using server = await serving('unix', {
      watch: () => {
        throw new Error('a bug');
      },
    });
    using client = new BlockJobClient({ address: server.address });
    const refused = rest(client.watchJob({ job: JOB }));
    await expect(refused).rejects.toMatchObject({ code: 'INTERNAL', reason: 'BUG', isAnswer: true });
  });

  it('ends by its signal with the signal’s reason, by its deadline, or by leaving the loop; the server hears of each', async () => {
    const job = new ScriptedJob();
    await using server = await serving('unix', { watch: job.watch });
    using client = new BlockJobClient({ address: server.address });
    const stop = new AbortController();
    const watch = client.watchJob({ job: JOB }, { signal: stop.signal });
    await through(watch, 1, []);
    stop.abort(new Error('enough'));
    await expect(watch.next()).rejects.toThrow('enough');
    await job.opened(0);
    await expect(rest(client.watchJob({ job: JOB }, { timeoutMs: 200 }))).rejects.toMatchObject({
      code: 'DEADLINE_EXCEEDED',
    });
    await job.opened(0);
    for await (const event of client.watchJob({ job: JOB })) if (event.revision === 1n) break;
    await job.opened(0);
  });
});

function portOf({ address }: { address: string }): number {
  return Number(address.split(':').at(-1));
}

/** A server that is started and ended at one address. */
class Home implements AsyncDisposable {
  readonly path: string;
  readonly #jobs: BlockJobs;
  #server: RunningServer | undefined;

  constructor(path: string, jobs: Partial<BlockJobs>) {
    this.path = path;
    this.#jobs = jobs as BlockJobs;
  }

  async start(): Promise<void> {
    this.#server = await serve(this.#jobs, {
      info: INFO,
      listen: { unixSocket: this.path },
      log: pino({ level: 'silent' }),
    });
  }

  async stop(): Promise<void> {
    await this.#server?.drain(0);
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
