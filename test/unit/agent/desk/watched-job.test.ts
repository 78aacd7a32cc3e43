import { getEventListeners } from 'node:events';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { WatchedJob } from '../../../../src/agent/desk/watched-job.ts';
import { JobLog } from '../../../../src/agent/journal/job-log.ts';
import type { JobEvent } from '../../../../src/core/job/job-event.ts';
import { publicJob } from '../../../../src/core/job/job-view.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { NO_HISTORY, observe, type Progress } from '../../../../src/core/job/progress.ts';
import type { WatchRequest } from '../../../../src/core/requests.ts';
import { Watches } from '../../../../src/watch/watches.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED, JOB, OUTCOME, READY, RUNNING } from '../../core/stories.ts';

const END: EntryBody = { entry: 'ended', state: 'FAILED', failure: undefined, outcome: OUTCOME };
const LIFE: readonly EntryBody[] = [
  { entry: 'step-started', step: 'create-destination' },
  { entry: 'step-done', step: 'create-destination' },
  RUNNING,
  { entry: 'paused', reason: 'NO_SPACE' },
  { entry: 'resumed' },
  READY,
  END,
];
const LAST = LIFE.length + 1;

/** A job's watchers, and its progress, which the test controls. */
class Told {
  polls = 0;
  refreshed = 0;
  readonly #log: JobLog;
  readonly #watches = new Watches<WatchedJob>(100);
  #progress: Progress | undefined;

  constructor(log: JobLog) {
    this.#log = log;
  }

  tell(offsetBytes: number): void {
    const sample = { atMs: 0, time: '', offsetBytes, lengthBytes: 100, ready: false };
    this.#progress = observe(NO_HISTORY, sample).progress;
    this.#watches.feedOf(JOB)?.sampled();
  }

  of(): Progress | undefined {
    return this.#progress;
  }

  poll(): Disposable {
    this.polls += 1;
    return {
      [Symbol.dispose]: () => {
        this.polls -= 1;
      },
    };
  }

  watch(more: Partial<WatchRequest>, signal: AbortSignal): AsyncGenerator<JobEvent> {
    const request = { job: { jobId: JOB }, afterRevision: undefined, progressIntervalMs: undefined, ...more };
    const known = { job: publicJob(this.#log.job), progress: this.of() };
    const shown = async () => {
      this.refreshed += 1;
      return await Promise.resolve({ job: publicJob(this.#log.job), progress: this.of() });
    };
    const events = this.#watches.watch({ known, shown }, () => new WatchedJob(this.#log, this), request, { signal });
    return events[Symbol.asyncIterator]();
  }
}

interface Watched extends AsyncDisposable {
  readonly log: JobLog;
  readonly told: Told;
  readonly caller: AbortController;
  watch(request?: Partial<WatchRequest>): AsyncGenerator<JobEvent>;
}

async function watched(...entries: readonly EntryBody[]): Promise<Watched> {
  await using resources = new AsyncDisposableStack();
  const dir = resources.use(await testDir());
  const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
  resources.defer(async () => await log.close());
  for (const entry of entries) await log.append(entry);
  const told = new Told(log);
  const caller = new AbortController();
  const kept = resources.move();
  return {
    log,
    told,
    caller,
    watch: (request = {}) => told.watch(request, caller.signal),
    [Symbol.asyncDispose]: async () => await kept.disposeAsync(),
  };
}

const revisionsOf = (events: readonly JobEvent[]) => events.map(({ job }) => job.revision);
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);

async function allOf(events: AsyncIterable<JobEvent>): Promise<JobEvent[]> {
  const all: JobEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

async function next(events: AsyncGenerator<JobEvent>): Promise<JobEvent> {
  const { value, done } = await events.next();
  if (done === true) throw new Error('the stream has ended');
  return value;
}

afterEach(() => {
  vi.useRealTimers();
});

describe('a watcher', () => {
  it('never a lost event: has every revision once and in order, from any revision on, and the end after the last', async () => {
    await using job = await watched(...LIFE);
    for (let after = 0; after <= LAST; after += 1) {
      const events = await allOf(job.watch({ afterRevision: after }));
      expect(revisionsOf(events)).toEqual(upTo(LAST).slice(after));
    }
  });

  it('has the same live, whenever it came and however many there are', async () => {
    await using job = await watched();
    const watchers: Promise<JobEvent[]>[] = [];
    for (const entry of LIFE) {
      watchers.push(allOf(job.watch({ afterRevision: 0 })));
      await job.log.append(entry);
    }
    for (const events of await Promise.all(watchers)) expect(revisionsOf(events)).toEqual(upTo(LAST));
  });

  it('shares each event with all the others: one object, to be encoded once', async () => {
    await using job = await watched(RUNNING);
    const watchers = [0, 0, 1].map((afterRevision) => job.watch({ afterRevision }));
    const seen = new Map<number, Set<JobEvent>>();
    await Promise.all(
      watchers.map(async (events) => {
        for await (const event of events) {
          const kind = event.type === 'PROGRESS' ? 0 : event.job.revision;
          seen.set(kind, (seen.get(kind) ?? new Set()).add(event));
          // Sends it when all wait for it.
          if (kind === 2) setImmediate(() => job.told.tell(10));
          if (kind === 0) setImmediate(() => void job.log.offer(END, { otherwise: () => undefined }));
        }
      }),
    );
    expect([1, 2, 3].map((revision) => seen.get(revision)?.size)).toEqual([1, 1, 1]);
    // Each `tell` is another value; each value is one event.
    const progress = [...(seen.get(0) ?? [])].map((event) => event.progress);
    expect(new Set(progress).size).toBe(progress.length);
  });

  it('that comes back after the journal was lost is told so, once, and has all that is known since', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), { ...ACCEPTED, recovered: true });
    for (const entry of [RUNNING, READY, END]) await log.append(entry);
    const { oldest } = log;
    expect(oldest).toBeGreaterThan(1_000_000);
    const from = async (afterRevision: number) => {
      const events = await allOf(new Told(log).watch({ afterRevision }, new AbortController().signal));
      return events.map(({ type, job, oldestRevision }) => `${type} ${oldestRevision ?? job.revision - oldest}`);
    };
    const [first, ...rest] = ['STATE 0', 'STATE 1', 'STATE 2', 'STATE 3'];
    for (const lost of [0, 1, oldest - 2]) expect(await from(lost)).toEqual([`COMPACTED ${oldest}`, first, ...rest]);
    expect(await from(oldest - 1)).toEqual([first, ...rest]);
    expect(await from(oldest)).toEqual(rest);
    await log.close();
  });

  it('gets the kind of each event, in words, with the job as it was then', async () => {
    await using job = await watched(...LIFE);
    const events = await allOf(job.watch({ afterRevision: 0 }));
    expect(events.map(({ type, detail, job: { state } }) => `${type} ${state}: ${detail}`)).toEqual([
      'STATE STARTING: accepted: copy /vm/disk.qcow2 to /copies/disk.qcow2',
      'STEP STARTING: step create-destination started',
      'STEP STARTING: step create-destination done',
      'STATE RUNNING: QEMU runs the job',
      'PAUSED RUNNING: paused: NO_SPACE',
      'RESUMED RUNNING: resumed',
      'STATE READY: ready: the destination has caught up, and each guest write goes to both sides',
      'STATE FAILED: FAILED',
    ]);
  });

  it('has progress in the event of its last revision alone', async () => {
    await using job = await watched(RUNNING, READY);
    job.told.tell(5);
    const events = job.watch({ afterRevision: 0 });
    const of: unknown[] = [];
    for (let revision = 1; revision <= 3; revision += 1) of.push((await next(events)).progress?.currentBytes);
    expect(of).toEqual([undefined, undefined, 5]);
    await events.return(undefined);
  });

  it('begins with the job as it is, and then has all that comes', async () => {
    await using job = await watched(RUNNING);
    const events = job.watch();
    expect(await next(events)).toMatchObject({ type: 'SNAPSHOT', job: { state: 'RUNNING', revision: 2 } });
    expect(job.told.refreshed).toBe(1);
    // Written before the watcher asks again: it must not be treated as known.
    await job.log.append(READY);
    await job.log.append(END);
    expect(await next(events)).toMatchObject({ type: 'STATE', job: { state: 'READY', revision: 3 } });
    expect(await next(events)).toMatchObject({ type: 'STATE', job: { state: 'FAILED', revision: 4 } });
    expect((await events.next()).done).toBe(true);
  });

  it('of an ended job has a snapshot and the end', async () => {
    await using job = await watched(...LIFE);
    const events = await allOf(job.watch());
    expect(events.map(({ type, job: { state } }) => [type, state])).toEqual([['SNAPSHOT', 'FAILED']]);
  });

  it('is refused a revision that the job does not have', async () => {
    await using job = await watched(RUNNING);
    await expect(job.watch({ afterRevision: 3 }).next()).rejects.toMatchObject({
      reason: 'REVISION_UNKNOWN',
      failure: { metadata: { job: JOB, revision: '3', last: '2' } },
    });
    expect(job.told.polls).toBe(0);
  });

  it('that is slow misses progress and nothing else, and then has the latest', async () => {
    await using job = await watched(RUNNING);
    const events = job.watch({ afterRevision: 2 });
    for (let offset = 0; offset < 50; offset += 1) job.told.tell(offset);
    await job.log.append(READY);
    expect(await next(events)).toMatchObject({ type: 'STATE', job: { state: 'READY' } });
    job.told.tell(60);
    job.told.tell(70);
    expect(await next(events)).toMatchObject({ type: 'PROGRESS', progress: { currentBytes: 70 } });
    const waiting = next(events);
    await job.log.append(END);
    expect(await waiting).toMatchObject({ type: 'STATE', job: { state: 'FAILED' } });
  });

  it('has a sign of life when nothing happens for long', async () => {
    await using job = await watched(RUNNING);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    const events = job.watch({ afterRevision: 2 });
    for (let beat = 0; beat < 3; beat += 1) {
      const beating = next(events);
      await vi.advanceTimersToNextTimerAsync();
      expect(await beating).toMatchObject({ type: 'HEARTBEAT', job: { revision: 2 } });
    }
    await events.return(undefined);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('has it also while it is woken all the time for nothing', async () => {
    await using job = await watched(RUNNING);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    const events = job.watch({ afterRevision: 2 });
    let beats = 0;
    const beating = next(events).finally(() => {
      beats += 1;
    });
    const pass = async (seconds: number) => {
      for (let second = 0; second < seconds; second += 1) {
        await vi.advanceTimersByTimeAsync(1000);
        job.log.changed.notify();
      }
    };
    await pass(14);
    expect(beats).toBe(0);
    await pass(2);
    expect(beats).toBe(1);
    expect(await beating).toMatchObject({ type: 'HEARTBEAT', job: { revision: 2 } });
    await events.return(undefined);
  });

  it('that wants progress seldom has it seldom, with the latest numbers when it is due', async () => {
    await using job = await watched(RUNNING);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    const [often, seldom] = [100, 10_000].map((progressIntervalMs) => {
      const seen: (number | undefined)[] = [];
      const done = (async () => {
        for await (const { type, progress } of job.watch({ afterRevision: 2, progressIntervalMs })) {
          if (type === 'PROGRESS') seen.push(progress?.currentBytes);
        }
      })();
      return { seen, done };
    });
    for (let tenth = 1; tenth <= 21; tenth += 1) {
      job.told.tell(tenth);
      await vi.advanceTimersByTimeAsync(500);
    }
    job.caller.abort();
    await Promise.all([often?.done, seldom?.done]);
    expect(often?.seen).toEqual(upTo(21));
    expect(seldom?.seen).toEqual([1, 20]);
  });

  it('that has left ends without an error, and the job continues', async () => {
    await using job = await watched(RUNNING);
    const events = allOf(job.watch({ afterRevision: 1 }));
    job.caller.abort();
    expect(revisionsOf(await events)).not.toContain(3);
    expect(job.told.polls).toBe(0);
    expect((await job.log.append(READY)).state).toBe('READY');
  });

  it.each(['leaves', 'has gone', 'has seen the end'])(
    'that %s leaves no poll, no timer and no listener',
    async (how) => {
      await using job = await watched(RUNNING);
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
      const events = job.watch({ afterRevision: 1 });
      await next(events);
      for (let round = 0; round < 20; round += 1) {
        const progress = next(events);
        job.told.tell(round);
        await vi.advanceTimersByTimeAsync(1000);
        await progress;
      }
      expect(job.told.polls).toBe(1);
      const last = how === 'leaves' ? events.return(undefined) : events.next();
      if (how === 'has gone') job.caller.abort();
      if (how === 'has seen the end') await job.log.append(END);
      await last;
      expect((await events.next()).done).toBe(true);
      expect(job.told.polls).toBe(0);
      expect(vi.getTimerCount()).toBe(0);
      expect(getEventListeners(job.caller.signal, 'abort')).toEqual([]);
    },
  );
});
