/** Many watchers of one job. They share one look at it, and each has its own interval and cursor. */
import { afterEach, expect, it, vi } from 'vitest';
import { JobEvent } from '../../../src/core/job/job-event.ts';
import { publicJob } from '../../../src/core/job/job-view.ts';
import { NO_HISTORY, observe } from '../../../src/core/job/progress.ts';
import { Wake } from '../../../src/lib/wake.ts';
import { Crowd } from '../../../src/watch/crowd.ts';
import type { Feed } from '../../../src/watch/feed.ts';
import { jobOf } from '../core/stories.ts';

const MANY = 1000;
const base = publicJob(jobOf());

/** A job. The test sets its revisions and its progress. */
class Told implements Feed {
  readonly oldest = 1;
  readonly joined: number[] = [];
  readonly #changed = new Wake();
  readonly #entries: JobEvent[] = [];
  progress: JobEvent | undefined;

  get latest(): number {
    return this.#entries.length;
  }

  onChange(look: () => void): Disposable {
    return this.#changed.onChange(look);
  }

  at(revision: number): JobEvent | undefined {
    return this.#entries[revision - 1];
  }

  join(intervalMs: number): Disposable {
    this.joined.push(intervalMs);
    return { [Symbol.dispose]: () => void this.joined.splice(this.joined.indexOf(intervalMs), 1) };
  }

  enter(): void {
    this.#entries.push(this.#event('STATE'));
    this.#changed.notify();
  }

  sample(offsetBytes: number): void {
    const sample = { atMs: 0, time: '', offsetBytes, lengthBytes: 100, ready: false };
    this.progress = this.#event('PROGRESS', observe(NO_HISTORY, sample).progress);
    this.#changed.notify();
  }

  #event(type: JobEvent['type'], progress?: JobEvent['progress']): JobEvent {
    const revision = this.latest + (type === 'STATE' ? 1 : 0);
    return new JobEvent({ type, time: '', job: { ...base, revision }, progress, detail: '' });
  }
}

const NOBODY_ASKS = { shown: async () => await Promise.reject(new Error('not asked')) };

/** The crowd of a job that has one entry. */
function begun() {
  const told = new Told();
  told.enter();
  return { told, crowd: new Crowd(told), leaving: new AbortController() };
}

function watchers(crowd: Crowd<Told>, count: number, intervalMs: number, signal: AbortSignal) {
  return Array.from({ length: count }, () => {
    const seen: JobEvent[] = [];
    const part = crowd.enter(intervalMs);
    const take = (event: JobEvent) => void seen.push(event);
    const done = crowd.follow({ at: 0, sent: undefined }, { ...NOBODY_ASKS, intervalMs, take }, signal);
    return { seen, done: done.finally(() => part[Symbol.dispose]()) };
  });
}

const shown = (events: readonly JobEvent[]) =>
  events.map(({ type, job, progress }) => `${type} ${progress?.currentBytes ?? job.revision}`);

const upTo = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, at) => `PROGRESS ${first + at}`);

afterEach(() => {
  vi.useRealTimers();
});

it('share one timer and one part in the feed; others have their turn between them', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  const { told, crowd, leaving } = begun();
  const all = [...watchers(crowd, MANY - 1, 1000, leaving.signal), ...watchers(crowd, 1, 500, leaving.signal)];
  expect({ timers: vi.getTimerCount(), joined: told.joined, watchers: crowd.watchers }).toEqual({
    timers: 1,
    joined: [500],
    watchers: MANY,
  });

  told.enter();
  let firstTurn = 0;
  setImmediate(() => {
    firstTurn = all.filter(({ seen }) => seen.length === 2).length;
  });
  await vi.waitFor(() => expect(all.every(({ seen }) => seen.length === 2)).toBe(true));
  expect(firstTurn).toBeGreaterThan(0);
  expect(firstTurn).toBeLessThan(MANY);

  leaving.abort();
  await Promise.all(all.map(async ({ done }) => await done));
  expect({ timers: vi.getTimerCount(), joined: told.joined, watchers: crowd.watchers }).toEqual({
    timers: 0,
    joined: [],
    watchers: 0,
  });
});

it('have progress at their own intervals, and entries at once', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  const { told, crowd, leaving } = begun();
  const [often, seldom] = [100, 1000].map((intervalMs) => watchers(crowd, 1, intervalMs, leaving.signal)[0]);
  for (let at = 0; at < 11; at += 1) {
    told.sample(at);
    if (at === 5) told.enter();
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(shown(often?.seen ?? [])).toEqual(['STATE 1', ...upTo(0, 4), 'STATE 2', ...upTo(6, 10)]);
  expect(shown(seldom?.seen ?? [])).toEqual(['STATE 1', 'PROGRESS 0', 'STATE 2', 'PROGRESS 9']);
  leaving.abort();
  await Promise.all([often?.done, seldom?.done]);
});

it('wait for nobody: one that does not take more misses samples, and no entry', async () => {
  const { told, crowd, leaving } = begun();
  const [quick] = watchers(crowd, 1, 0, leaving.signal);
  const seen: JobEvent[] = [];
  let free = Promise.withResolvers<void>();
  const take = async (event: JobEvent) => {
    seen.push(event);
    await free.promise;
  };
  const slow = crowd.follow({ at: 0, sent: undefined }, { ...NOBODY_ASKS, intervalMs: 0, take }, leaving.signal);
  using _part = crowd.enter(0);
  for (let at = 0; at < 3; at += 1) {
    told.sample(at);
    await vi.waitFor(() => expect(quick?.seen).toHaveLength(2 * at + 2));
    told.enter();
    await vi.waitFor(() => expect(quick?.seen).toHaveLength(2 * at + 3));
  }
  expect(shown(seen)).toEqual(['STATE 1']);
  told.sample(9);
  free.resolve();
  free = Promise.withResolvers<void>();
  free.resolve();
  await vi.waitFor(() => expect(shown(seen)).toEqual(['STATE 1', 'STATE 2', 'STATE 3', 'STATE 4', 'PROGRESS 9']));
  leaving.abort();
  await Promise.all([slow, quick?.done]);
});
