/**
 * One watcher of all jobs of a host. It gets each entry once, in order within a job, at its own pace. It is a cursor:
 * it reads the entries that it missed from the journals, and then the latest entries, which all watchers share.
 *
 *   behind ──snapshot or missed entries, then SYNCED──► recent ──entries, progress──► watcher
 *     ▲                                                   │
 *     └───────────── too slow, or a new round ────────────┘
 */
import type { Call } from '../core/block-jobs.ts';
import { fail } from '../core/errors.ts';
import { isMeant, type Placed, type WatchFilter } from '../core/job/labels.ts';
import type { Progress } from '../core/job/progress.ts';
import { type JobsMessage, type Position, positionsIn } from '../core/jobs-message.ts';
import { mayRead } from '../core/rights.ts';
import type { Recent } from './recent.ts';

/** The longest silence: a longer one looks like a dead connection. */
export const HEARTBEAT_MS = 15_000;

/** All jobs of one host. */
export interface JobsFeed {
  readonly host: string;
  readonly recent: Recent;
  /** Adds a watcher that wants progress at this interval, until disposed of. */
  join(intervalMs: number): Disposable;
  /** Keeps the entries that follow this position, unless it already does. */
  keepFrom(position: Position): void;
  /** Moves the position on after a long silence. */
  moveOn(): void;
  /** The messages up to SYNCED for a watcher that is behind. More may follow. */
  behind(watcher: JobsWatcher): AsyncIterable<JobsMessage>;
}

export interface JobsWatcher extends WatchFilter {
  /** Undefined if it begins with a snapshot. */
  readonly after: Position | undefined;
  readonly intervalMs: number;
  /** The watch ends with the signal of the call, and shows what its rights allow. */
  readonly call: Call;
}

export function wants(watcher: JobsWatcher, job: { readonly accepted: Placed }): boolean {
  return isMeant(job.accepted, watcher) && mayRead(watcher.call, job);
}

/** Ends with the watcher's signal. */
export async function* followJobs(feed: JobsFeed, watcher: JobsWatcher): AsyncGenerator<JobsMessage> {
  using _part = feed.join(watcher.intervalMs);
  yield* new FollowedJobs(feed, watcher).follow();
}

class FollowedJobs {
  readonly #feed: JobsFeed;
  readonly #watcher: JobsWatcher;
  readonly #sent = new Map<string, Progress>();
  #at: Position | undefined;
  /** The round in which it was synced. */
  #round = -1;
  #isCutOff = false;
  #sentMs = performance.now();
  #progressMs = -Infinity;

  constructor(feed: JobsFeed, watcher: JobsWatcher) {
    this.#feed = feed;
    this.#watcher = watcher;
    this.#at = watcher.after;
  }

  async *follow(): AsyncGenerator<JobsMessage> {
    while (!this.#watcher.call.signal.aborted) {
      for await (const message of this.#isSynced() ? this.#recent() : this.#behind()) {
        this.#sentMs = performance.now();
        yield message;
      }
    }
  }

  #isSynced(): boolean {
    const { recent } = this.#feed;
    return this.#at !== undefined && this.#round === recent.rounds && recent.holds(this.#at);
  }

  async *#behind(): AsyncGenerator<JobsMessage> {
    const { recent } = this.#feed;
    const round = recent.rounds;
    let isSynced = false;
    for await (const message of this.#feed.behind({ ...this.#watcher, after: this.#at })) {
      this.#at = positionsIn(message).get(this.#feed.host) ?? this.#at;
      if (this.#isNews(message)) yield message;
      isSynced ||= message.is === 'SYNCED';
      if (!isSynced || this.#at === undefined) continue;
      this.#round = round;
      this.#feed.keepFrom(this.#at);
      if (recent.holds(this.#at)) return;
    }
  }

  /** Whether this watcher wants the message and has not got it yet. */
  #isNews(message: JobsMessage): boolean {
    if (message.is === 'UNREACHABLE') {
      if (this.#isCutOff) return false;
      this.#isCutOff = true;
      return true;
    }
    if (message.is === 'EVENT') return wants(this.#watcher, message.event.job);
    if (message.is === 'SYNCED') this.#isCutOff = false;
    return message.is === 'SNAPSHOT' || message.is === 'SYNCED';
  }

  /** Ends when the latest entries are not enough for this watcher. */
  async *#recent(): AsyncGenerator<JobsMessage> {
    const { host, recent } = this.#feed;
    const { intervalMs, call } = this.#watcher;
    const { signal } = call;
    while (!signal.aborted && this.#isSynced()) {
      const before = recent.changed.now;
      const at = this.#at ?? { epoch: '', at: 0 };
      const told = recent.after(at.at);
      if (told !== undefined) {
        const position = { ...at, at: told.at };
        this.#at = position;
        const { event } = told;
        if (wants(this.#watcher, event.job)) yield { is: 'EVENT', host, event, position };
        continue;
      }
      const { trouble } = recent;
      if (trouble !== undefined && !this.#isCutOff) {
        this.#isCutOff = true;
        yield { is: 'UNREACHABLE', host, why: trouble };
        continue;
      }
      const now = performance.now();
      if (now - this.#progressMs >= intervalMs) {
        yield* this.#progress(at.at);
        if (recent.after(at.at) === undefined) this.#progressMs = now;
        continue;
      }
      if (now - this.#sentMs >= HEARTBEAT_MS) {
        this.#feed.moveOn();
        this.#at = { ...at, at: Math.max(at.at, recent.position?.at ?? 0) };
        yield { is: 'HEARTBEAT', positions: new Map([[host, this.#at]]) };
        continue;
      }
      const timeoutMs = Math.min(this.#progressMs + intervalMs, this.#sentMs + HEARTBEAT_MS) - now;
      await recent.changed.after(before, { signal, timeoutMs });
    }
  }

  /** Stops when there is an entry that the watcher has not got: entries come before progress. */
  *#progress(at: number): Generator<JobsMessage> {
    const { host, recent } = this.#feed;
    for (const [job, event] of recent.progress) {
      const { progress } = event;
      if (progress === undefined || this.#sent.get(job) === progress || !wants(this.#watcher, event.job)) continue;
      if (recent.after(at) !== undefined) return;
      this.#sent.set(job, progress);
      yield { is: 'EVENT', host, event };
    }
    for (const job of this.#sent.keys()) if (!recent.progress.has(job)) this.#sent.delete(job);
  }
}

/** The number of watchers of one host, or of one gateway. */
const MOST = 500;

/** Throws TOO_MANY_WATCHES. */
export function refuseMore(watchers: number): void {
  if (watchers >= MOST) fail('TOO_MANY_WATCHES', { limit: MOST });
}

/** Adds COMPLETE after the first SYNCED, for the watch of a single host. */
export async function* withComplete(messages: AsyncIterable<JobsMessage>): AsyncGenerator<JobsMessage> {
  let isComplete = false;
  for await (const message of messages) {
    yield message;
    if (isComplete || message.is !== 'SYNCED') continue;
    isComplete = true;
    yield { is: 'COMPLETE' };
  }
}
