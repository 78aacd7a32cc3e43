/**
 * One watcher of a job: every revision once and in order, at its own pace, and between them the latest progress. It is a
 * cursor, not a queue: it costs nothing while it does not read, and misses nothing.
 */
import { JobEvent } from '../core/job/job-event.ts';
import { isOver, type JobView } from '../core/job/job-view.ts';
import { timestamp } from '../lib/clock.ts';
import type { Take } from '../lib/pushed.ts';
import type { Feed } from './feed.ts';
import { HEARTBEAT_MS } from './follow-jobs.ts';

/** Where a watcher begins. */
export interface Begin {
  /** The last revision that it has. */
  readonly at: number;
  /** The job at that revision, if it was sent. */
  readonly sent: JobView | undefined;
}

export interface CursorOptions {
  readonly feed: Feed;
  /** The job as callers see it now; the journal of an ended job may be out of date. */
  readonly shown: () => Promise<JobView>;
  /** The least time between two PROGRESS. */
  readonly intervalMs: number;
  readonly take: Take<JobEvent>;
  /** Called after it has looked by itself. */
  readonly looked: (cursor: Cursor) => void;
}

export class Cursor {
  readonly #options: CursorOptions;
  readonly #ended = Promise.withResolvers<void>();
  #at: number;
  /** The last view that it was sent. A watcher that is cut off resumes by its revision, so it gets no later one. */
  #sent: JobView | undefined;
  #sentMs = performance.now();
  /** From when on it takes progress. */
  #freeMs = 0;
  #dueMs = Infinity;
  /** Its reader does not take more, or it waits for what it sends next. */
  #isBusy = false;
  #isOver = false;

  constructor({ at, sent }: Begin, options: CursorOptions) {
    this.#options = options;
    this.#at = at;
    this.#sent = sent;
  }

  /** Resolves after the event that ended the job, or when its caller has left. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** When it has something to send if nothing changes until then. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** Whether it takes new progress now. Otherwise it is due as soon as it does. */
  takesProgress(nowMs: number): boolean {
    if (this.#freeMs <= nowMs) return true;
    this.#dueMs = Math.min(this.#dueMs, this.#freeMs);
    return false;
  }

  /** Sends all that its reader takes at once. */
  look(nowMs: number): void {
    this.#dueMs = Infinity;
    try {
      while (!this.#isBusy && !this.#isOver) if (!this.#next(nowMs)) return;
    } catch (error) {
      this.#fail(error);
    }
  }

  end(): void {
    this.#isOver = true;
    this.#dueMs = Infinity;
    this.#ended.resolve();
  }

  #fail(error: unknown): void {
    this.#ended.reject(error);
    this.end();
  }

  /** Whether it sent something. */
  #next(nowMs: number): boolean {
    const { feed } = this.#options;
    if (this.#at < feed.oldest - 1) {
      this.#at = feed.oldest - 1;
      this.#busyWith(this.#tellCompacted(feed.oldest));
      return true;
    }
    const next = feed.at(this.#at + 1);
    if (next !== undefined) {
      this.#at += 1;
      this.#sent = next;
      this.#send(next, nowMs);
      return true;
    }
    const sent = this.#sent;
    if (sent !== undefined && isOver(sent.job)) {
      this.end();
      return false;
    }
    if (feed.failed !== undefined) throw feed.failed;
    const { progress } = feed;
    const latest = progress?.job.revision === this.#at ? progress : undefined;
    const isNew = latest !== undefined && latest.progress !== sent?.progress;
    if (isNew && this.#freeMs <= nowMs) {
      this.#freeMs = nowMs + this.#options.intervalMs;
      this.#sent = latest;
      this.#send(latest, nowMs);
      return true;
    }
    const beatMs = this.#sentMs + HEARTBEAT_MS;
    if (beatMs > nowMs) {
      this.#dueMs = isNew ? Math.min(this.#freeMs, beatMs) : beatMs;
      return false;
    }
    const now = latest ?? sent;
    if (now === undefined) this.#sentMs = nowMs;
    else this.#send(live('HEARTBEAT', now, ''), nowMs);
    return true;
  }

  #send(event: JobEvent, nowMs: number): void {
    this.#sentMs = nowMs;
    const full = this.#options.take(event);
    if (full !== undefined) this.#busyWith(full);
  }

  #busyWith(work: Promise<void>): void {
    this.#isBusy = true;
    work.then(
      () => {
        this.#isBusy = false;
        this.look(performance.now());
        this.#options.looked(this);
      },
      (error: unknown) => this.#fail(error),
    );
  }

  async #tellCompacted(oldest: number): Promise<void> {
    const { job } = await this.#options.shown();
    if (this.#isOver) return;
    this.#sentMs = performance.now();
    const view = { job, progress: undefined };
    await this.#options.take(live('COMPACTED', view, 'earlier revisions are not kept any more', oldest));
  }
}

/** Two events with the same facts, whose times differ by less, are one. */
const SAME_TIME_MS = 10;

let last: { readonly event: JobEvent; readonly madeMs: number } | undefined;

/** An event that is not an entry. Many watchers who get it at almost the same time share it, and its encoded form. */
export function live(
  type: 'SNAPSHOT' | 'COMPACTED' | 'HEARTBEAT',
  { job, progress }: JobView,
  detail: string,
  oldestRevision?: number,
): JobEvent {
  const nowMs = performance.now();
  const known = last !== undefined && nowMs - last.madeMs < SAME_TIME_MS ? last.event : undefined;
  const isSame =
    known?.type === type &&
    known.job === job &&
    known.progress === progress &&
    known.detail === detail &&
    known.oldestRevision === oldestRevision;
  if (isSame) return known;
  const event = new JobEvent({ type, time: timestamp(), job, progress, detail, oldestRevision });
  last = { event, madeMs: nowMs };
  return event;
}
