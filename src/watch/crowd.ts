/**
 * All watchers of one job. They share its feed, one timer and one look at what is new; each has its own cursor.
 *
 *   feed ──changed──► round: each cursor looks, some hundred in a turn ──► watchers
 *   timer ──due────►    └─ of some cursors only
 */
import { Timer } from '../lib/timer.ts';
import { type Begin, Cursor, type CursorOptions } from './cursor.ts';
import type { Feed } from './feed.ts';

/** Others have their turn after so many. */
const AT_ONCE = 250;
/** Between two rounds of the timer: watchers that are due at almost the same time share one. */
const LEAST_MS = 10;

export class Crowd<Watched extends Feed> {
  readonly feed: Watched;
  readonly #cursors = new Set<Cursor>();
  /** The number of watchers with each interval. */
  readonly #intervals = new Map<number, number>();
  #watchers = 0;
  /** The shortest of the intervals, and the part in the feed that it stands for. */
  #shortestMs = Infinity;
  #part: Disposable | undefined;
  #listening: Disposable | undefined;
  #timer: Timer | undefined;
  #timerMs = Infinity;
  /** The revisions of the last round. */
  #oldest = 0;
  #latest = 0;
  #isChanged = false;
  #isLooking = false;

  constructor(feed: Watched) {
    this.feed = feed;
  }

  get watchers(): number {
    return this.#watchers;
  }

  /** One more watcher, until disposed of. */
  enter(intervalMs: number): Disposable {
    this.#watchers += 1;
    this.#intervals.set(intervalMs, (this.#intervals.get(intervalMs) ?? 0) + 1);
    this.#listening ??= this.feed.onChange(() => {
      this.#isChanged = true;
      void this.#look();
    });
    this.#join(Math.min(this.#shortestMs, intervalMs));
    return { [Symbol.dispose]: () => this.#leave(intervalMs) };
  }

  #leave(intervalMs: number): void {
    this.#watchers -= 1;
    const left = (this.#intervals.get(intervalMs) ?? 0) - 1;
    if (left > 0) this.#intervals.set(intervalMs, left);
    else this.#intervals.delete(intervalMs);
    if (left === 0 && intervalMs === this.#shortestMs) {
      this.#join([...this.#intervals.keys()].reduce((one, other) => Math.min(one, other), Infinity));
    }
    if (this.#watchers > 0) return;
    this.#listening?.[Symbol.dispose]();
    this.#listening = undefined;
    this.#timer?.[Symbol.dispose]();
    this.#timerMs = Infinity;
  }

  #join(intervalMs: number): void {
    if (intervalMs === this.#shortestMs) return;
    const before = this.#part;
    this.#shortestMs = intervalMs;
    this.#part = intervalMs === Infinity ? undefined : this.feed.join(intervalMs);
    before?.[Symbol.dispose]();
  }

  /** The watcher leaves with the signal. */
  follow(begin: Begin, options: Omit<CursorOptions, 'feed' | 'looked'>, signal: AbortSignal): Promise<void> {
    const cursor = new Cursor(begin, { ...options, feed: this.feed, looked: this.#looked });
    this.#cursors.add(cursor);
    const leave = () => cursor.end();
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    cursor.look(performance.now());
    this.#looked(cursor);
    return cursor.ended.finally(() => {
      this.#cursors.delete(cursor);
      signal.removeEventListener('abort', leave);
    });
  }

  readonly #looked = ({ dueMs }: Cursor) => this.#due(dueMs);

  /** New progress concerns those who take it now, a new entry concerns all, and the time those who are due. */
  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const { feed } = this;
    let [dueMs, nowMs] = [Infinity, 0];
    do {
      // After the one who reports the change, and as one look for several changes.
      await Promise.resolve();
      const isForAll = this.#oldest !== feed.oldest || this.#latest !== feed.latest || feed.failed !== undefined;
      [this.#oldest, this.#latest] = [feed.oldest, feed.latest];
      const isProgress = this.#isChanged;
      this.#isChanged = false;
      [dueMs, nowMs] = [Infinity, performance.now()];
      let looks = 0;
      for (const cursor of this.#cursors) {
        if (isForAll || cursor.dueMs <= nowMs || (isProgress && cursor.takesProgress(nowMs))) {
          cursor.look(nowMs);
          looks += 1;
        }
        dueMs = Math.min(dueMs, cursor.dueMs);
        if (looks < AT_ONCE) continue;
        looks = 0;
        await new Promise((resolve) => setImmediate(resolve));
        nowMs = performance.now();
      }
    } while (this.#isChanged);
    this.#isLooking = false;
    this.#due(Math.max(dueMs, nowMs + LEAST_MS));
  }

  #due(atMs: number): void {
    if (atMs >= this.#timerMs || this.#watchers === 0) return;
    this.#timer?.[Symbol.dispose]();
    this.#timerMs = atMs;
    this.#timer = new Timer(() => {
      this.#timerMs = Infinity;
      void this.#look();
    }, atMs - performance.now());
  }
}
