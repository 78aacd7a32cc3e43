/** Watches through a gateway, over an agent that the test controls. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Call } from '../../../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../../../src/core/errors.ts';
import { type EventFacts, JobEvent } from '../../../../src/core/job/job-event.ts';
import { type JobView, publicJob } from '../../../../src/core/job/job-view.ts';
import { NO_HISTORY, observe } from '../../../../src/core/job/progress.ts';
import type { WatchRequest } from '../../../../src/core/requests.ts';
import type { Agent } from '../../../../src/fleet/gateway/agents.ts';
import { SharedWatch } from '../../../../src/fleet/gateway/shared-watch.ts';
import { Wake } from '../../../../src/lib/wake.ts';
import { Watches } from '../../../../src/watch/watches.ts';
import { JOB, jobOf, READY, RUNNING } from '../../core/stories.ts';

const base = publicJob(jobOf());
const ENDED_AT = 6;

/** The job at a revision: it ends with the sixth. */
function viewAt(revision: number): JobView {
  const state = revision >= ENDED_AT ? 'COMPLETED' : revision > 2 ? jobOf(RUNNING, READY).state : 'RUNNING';
  const endTime = revision >= ENDED_AT ? '2026-01-01T00:00:00.000Z' : undefined;
  return { job: { ...base, revision, state, endTime }, progress: undefined };
}

function event(type: JobEvent['type'], revision: number, more: Partial<EventFacts> = {}): JobEvent {
  const [time, detail] = ['2026-01-01T00:00:00.000Z', `${type} ${revision}`];
  return new JobEvent({ ...viewAt(revision), type, time, detail, ...more });
}

/** An agent whose journal grows, and whose streams break, when the test says so. */
class Script {
  readonly asked: WatchRequest[] = [];
  readonly #changed = new Wake();
  #last = 1;
  #progress = 0;
  #broken = 0;
  #why: BlockJobError | undefined;
  oldest = 1;
  open = 0;
  /** Changes the entries of the stream. */
  told = (entry: JobEvent): JobEvent => entry;

  grow(to: number): void {
    this.#last = to;
    this.#changed.notify();
  }

  tellProgress(): void {
    this.#progress += 1;
    this.#changed.notify();
  }

  break(why: BlockJobError): void {
    this.#why = why;
    this.#broken += 1;
    this.#changed.notify();
  }

  heal(): void {
    this.#why = undefined;
  }

  get agent(): Agent {
    return { watch: (request: WatchRequest, call: Call) => this.#watch(request, call) } as unknown as Agent;
  }

  async *#watch(request: WatchRequest, { signal }: Call): AsyncGenerator<JobEvent> {
    this.asked.push(request);
    this.open += 1;
    try {
      const broken = this.#broken;
      let progress = this.#progress;
      let cursor = request.afterRevision ?? 0;
      if (cursor < this.oldest - 1) {
        cursor = this.oldest - 1;
        yield event('COMPACTED', this.#last, { oldestRevision: this.oldest });
      }
      while (!signal.aborted) {
        const before = this.#changed.now;
        if (this.#why !== undefined || broken !== this.#broken) throw this.#why ?? UNREACHABLE;
        if (cursor < this.#last) {
          cursor += 1;
          yield this.told(event('STATE', cursor));
          if (cursor >= ENDED_AT) return;
        } else if (progress < this.#progress) {
          progress += 1;
          yield event('PROGRESS', cursor, { progress: observe(NO_HISTORY, SAMPLE).progress });
        } else await this.#changed.after(before, { signal });
      }
    } finally {
      this.open -= 1;
    }
  }
}

const SAMPLE = { atMs: 0, time: '', offsetBytes: 10, lengthBytes: 100, ready: false };
const UNREACHABLE = new BlockJobError(failure('HOST_UNREACHABLE', { host: 'h1', why: 'a test' }));
const request = (afterRevision?: number, progressIntervalMs?: number): WatchRequest => ({
  job: { jobId: JOB },
  afterRevision,
  progressIntervalMs,
});

/** All watchers of the job, each allowed to read it. */
class SharedWatches {
  readonly #script: Script;
  readonly #watches: Watches<SharedWatch>;

  constructor(script: Script, limit: number) {
    this.#script = script;
    this.#watches = new Watches(limit);
  }

  get count(): number {
    return this.#watches.jobs;
  }

  watch(known: JobView, asked: WatchRequest, call: Call): AsyncGenerator<JobEvent> {
    const shared = () => new SharedWatch(JOB, async () => await Promise.resolve(this.#script.agent));
    const now = { known, shown: async () => await Promise.resolve(known) };
    return this.#watches.watch(now, shared, asked, call)[Symbol.asyncIterator]();
  }
}

function watches(script: Script, limit = 100): SharedWatches {
  return new SharedWatches(script, limit);
}

/** Collects revisions, and minus the oldest one for COMPACTED; `reached(n)` resolves when revision n was seen. */
function follow(all: SharedWatches, from: number, asked: WatchRequest, signal = new AbortController().signal) {
  const seen: number[] = [];
  const more = new Wake();
  const done = (async () => {
    for await (const { job, type, oldestRevision } of all.watch(viewAt(from), asked, { signal })) {
      if (type === 'STATE') seen.push(job.revision);
      if (type === 'COMPACTED') seen.push(-(oldestRevision ?? 0));
      more.notify();
    }
  })();
  done.catch(() => undefined);
  const reached = async (revision: number) => {
    while (!seen.includes(revision)) await more.after(more.now);
  };
  return { seen, done, reached };
}

/** The events of a job that is at revision 4, from the first revision on, until the watch ends. */
async function heard(script: Script) {
  vi.useFakeTimers();
  const seen: string[] = [];
  const stop = new AbortController();
  const done = (async () => {
    for await (const { type, job } of watches(script).watch(viewAt(4), request(0), { signal: stop.signal }))
      seen.push(`${type} ${job.revision}`);
  })().catch(() => undefined);
  await vi.advanceTimersByTimeAsync(29_000);
  stop.abort();
  await done;
  return seen;
}

describe('a heartbeat through a gateway', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('has the revision that was sent to the watcher last: it comes back with that', async () => {
    const script = new Script();
    script.grow(3);
    expect(await heard(script)).toEqual(['STATE 1', 'STATE 2', 'STATE 3', 'HEARTBEAT 3']);
  });

  it('also comes to a watcher that wants progress seldom, beside one that wants it often', async () => {
    vi.useFakeTimers();
    const script = new Script();
    script.grow(3);
    const all = watches(script);
    const stop = new AbortController();
    const { signal } = stop;
    const often = follow(all, 3, request(3, 1000), signal);
    const seen: string[] = [];
    const seldom = (async () => {
      for await (const { type } of all.watch(viewAt(3), request(3, 60_000), { signal })) seen.push(type);
    })();
    for (let second = 0; second < 33; second += 1) {
      await vi.advanceTimersByTimeAsync(1000);
      script.tellProgress();
    }
    stop.abort();
    await Promise.all([often.done, seldom]);
    expect(seen).toEqual(['PROGRESS', 'HEARTBEAT', 'HEARTBEAT']);
  });

  it('does not come while nothing was sent yet, as if the agent is lost at once', async () => {
    const script = new Script();
    script.break(UNREACHABLE);
    expect(await heard(script)).toEqual([]);
  });
});

describe('watches of one job through a gateway', () => {
  it('have entries of kinds and states that only a newer agent has, and end when its end has a time', async () => {
    const script = new Script();
    script.told = ({ job }) => {
      const state = job.endTime === undefined ? job.state : ('98' as never);
      return event('99' as never, job.revision, { job: { ...job, state } });
    };
    script.grow(ENDED_AT);
    const seen: string[] = [];
    const call = { signal: new AbortController().signal };
    for await (const { type, job } of watches(script).watch(viewAt(1), request(0), call)) {
      seen.push(`${type} ${job.revision} ${job.state}`);
    }
    const { state } = viewAt(3).job;
    const before = ['RUNNING', 'RUNNING', state, state, state].map((one, at) => `99 ${at + 1} ${one}`);
    expect(seen).toEqual([...before, `99 ${ENDED_AT} 98`]);
  });

  it('have one stream from the agent, however many there are and wherever they begin', async () => {
    const script = new Script();
    script.grow(3);
    const all = watches(script);
    const [whole, later, live] = [follow(all, 3, request(0)), follow(all, 3, request(2)), follow(all, 3, request())];
    await Promise.all([whole.reached(3), later.reached(3)]);
    script.grow(ENDED_AT);
    await Promise.all([whole.done, later.done, live.done]);
    expect([whole.seen, later.seen, live.seen]).toEqual([
      [1, 2, 3, 4, 5, 6],
      [3, 4, 5, 6],
      [4, 5, 6],
    ]);
    expect(script.asked).toHaveLength(1);
    expect(script.open).toBe(0);
  });

  it('continue after the last revision when the connection to the agent breaks: each revision once', async () => {
    const script = new Script();
    const one = follow(watches(script), 1, request(0));
    for (const revision of [2, 3, 4]) {
      script.grow(revision);
      await one.reached(revision);
      script.break(UNREACHABLE);
      script.heal();
    }
    script.grow(ENDED_AT);
    await one.done;
    expect(one.seen).toEqual([1, 2, 3, 4, 5, 6]);
    expect(script.asked.map(({ afterRevision }) => afterRevision)).toEqual([0, 2, 3, 4]);
  });

  it('end with the refusal of the agent', async () => {
    const script = new Script();
    const one = follow(watches(script), 1, request(0));
    await one.reached(1);
    script.break(new BlockJobError(failure('JOB_NOT_FOUND', { job: JOB })));
    await expect(one.done).rejects.toThrow('JOB_NOT_FOUND');
  });

  it('start again when the earlier stream has failed, though some watcher has not read yet that it did', async () => {
    const script = new Script();
    const all = watches(script);
    const slow = all.watch(viewAt(1), request(0), { signal: new AbortController().signal });
    await slow.next();
    const one = follow(all, 1, request(0));
    await one.reached(1);
    script.break(new BlockJobError(failure('JOB_NOT_FOUND', { job: JOB })));
    await expect(one.done).rejects.toThrow('JOB_NOT_FOUND');
    script.heal();
    const two = follow(all, 1, request(0));
    await two.reached(1);
    await expect(slow.next()).rejects.toThrow('JOB_NOT_FOUND');
    expect(all.count).toBe(1);
    script.grow(ENDED_AT);
    await two.done;
    expect(two.seen).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('get an error for entries that are not kept any more', async () => {
    const script = new Script();
    script.oldest = 4;
    script.grow(5);
    const one = follow(watches(script), 5, request(1));
    script.grow(ENDED_AT);
    await one.done;
    expect(one.seen).toEqual([-4, 4, 5, 6]);
  });

  it('of a job that has ended get the same', async () => {
    const script = new Script();
    script.grow(ENDED_AT);
    const all = watches(script);
    const [whole, none, live] = [follow(all, 6, request(0)), follow(all, 6, request(6)), follow(all, 6, request())];
    await Promise.all([whole.done, none.done, live.done]);
    expect([whole.seen, none.seen, live.seen]).toEqual([[1, 2, 3, 4, 5, 6], [], []]);
  });

  it('close the stream when the last one has left, and open one for the next watcher', async () => {
    const script = new Script();
    const all = watches(script);
    const leaving = new AbortController();
    const one = follow(all, 1, request(0), leaving.signal);
    await one.reached(1);
    leaving.abort();
    await one.done;
    const two = follow(all, 1, request(0));
    script.grow(ENDED_AT);
    await two.done;
    expect(two.seen).toEqual([1, 2, 3, 4, 5, 6]);
    expect(script.open).toBe(0);
  });

  it('open a new stream, after the last revision, for a watcher that wants progress more often', async () => {
    const script = new Script();
    const all = watches(script);
    const one = follow(all, 1, request(0, 5000));
    await one.reached(1);
    const two = follow(all, 1, request(0, 100));
    await two.reached(1);
    script.grow(ENDED_AT);
    await Promise.all([one.done, two.done]);
    expect(script.asked.map(({ progressIntervalMs }) => progressIntervalMs)).toEqual([5000, 100]);
    expect([one.seen, two.seen]).toEqual([
      [1, 2, 3, 4, 5, 6],
      [1, 2, 3, 4, 5, 6],
    ]);
  });

  it('are limited, and may not begin after the end', async () => {
    const script = new Script();
    const all = watches(script, 1);
    const leaving = new AbortController();
    const one = follow(all, 1, request(0), leaving.signal);
    await one.reached(1);
    await expect(follow(all, 1, request(0)).done).rejects.toThrow('TOO_MANY_WATCHERS');
    leaving.abort();
    await one.done;
    await expect(follow(all, 1, request(7)).done).rejects.toThrow('REVISION_UNKNOWN');
  });
});
