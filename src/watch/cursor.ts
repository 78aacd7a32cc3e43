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

/** The job when the watch begins. */
export interface JobNow {
  /** The job after its last entry. */
  readonly known: JobView;
  /** The job as callers see it now; the journal of an ended job may be out of date. */
  readonly shown: () => Promise<JobView>;
}

export interface Watching {
  readonly now: JobNow;
  readonly afterRevision: number | undefined;
  /** The least time between two PROGRESS. */
  readonly intervalMs: number;
  readonly take: Take<JobEvent>;
  /** Called after it has looked by itself: when it has to be looked at again. */
  readonly due: (atMs: number) => void;
  /** Called once: after the event that ended the job, or with the reason for an early end. */
  readonly end: (why?: { readonly error: unknown }) => void;
}

export class Cursor {
  readonly #feed: Feed;
  readonly #watching: Watching;
  /** The last revision that it has. */
  #at: number;
  /** The last view that it was sent. A watcher that is cut off resumes by its revision, so it gets no later one. */
  #sent: JobView | undefined;
  #sentMs = performance.now();
  #progressMs = -Infinity;
  #dueMs = Infinity;
  /** Its reader does not take more, or it waits for what it sends next. */
  #isBusy = false;
  #isOver = false;

  /** `first`: what it was sent at the beginning. */
  constructor(feed: Feed, watching: Watching, first: JobEvent | undefined) {
    this.#feed = feed;
    this.#watching = watching;
    const begin = first ?? watching.now.known;
    this.#at = watching.afterRevision ?? begin.job.revision;
    this.#sent = this.#at === begin.job.revision ? begin : undefined;
  }

  /** When it has something to send if nothing changes until then. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** Sends all that its reader takes at once. */
  look(nowMs: number): void {
    this.#dueMs = Infinity;
    try {
      while (!this.#isBusy && !this.#isOver) if (!this.#next(nowMs)) return;
    } catch (error) {
      this.end({ error });
    }
  }

  end(why?: { readonly error: unknown }): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#dueMs = Infinity;
    this.#watching.end(why);
  }

  /** Whether it sent something. */
  #next(nowMs: number): boolean {
    const feed = this.#feed;
    if (this.#at < feed.oldest - 1) {
      this.#at = feed.oldest - 1;
      this.#busyWith(this.#tellCompacted(feed.oldest));
      return true;
    }
    const next = feed.at(this.#at + 1);
    if (next !== undefined) {
      this.#at += 1;
      this.#send(next, nowMs);
      return true;
    }
    const sent = this.#sent;
    if (sent !== undefined && isOver(sent.job)) {
      this.end();
      return false;
    }
    if (feed.failed !== undefined) throw feed.failed;
    const latest = feed.progress?.job.revision === this.#at ? feed.progress : undefined;
    const isNew = latest !== undefined && latest.progress !== sent?.progress;
    const progressMs = isNew ? this.#progressMs + this.#watching.intervalMs : Infinity;
    if (isNew && progressMs <= nowMs) {
      this.#progressMs = nowMs;
      this.#send(latest, nowMs);
      return true;
    }
    const beatMs = this.#sentMs + HEARTBEAT_MS;
    if (beatMs > nowMs) {
      this.#dueMs = Math.min(progressMs, beatMs);
      return false;
    }
    const now = latest ?? sent;
    if (now === undefined) this.#sentMs = nowMs;
    else this.#send(live('HEARTBEAT', now, ''), nowMs);
    return true;
  }

  #send(event: JobEvent, nowMs: number): void {
    // A sign of life tells no numbers that have to wait for their time.
    if (event.type !== 'HEARTBEAT') this.#sent = event;
    this.#sentMs = nowMs;
    const full = this.#watching.take(event);
    if (full !== undefined) this.#busyWith(full);
  }

  #busyWith(work: Promise<void>): void {
    this.#isBusy = true;
    work.then(
      () => {
        this.#isBusy = false;
        this.look(performance.now());
        this.#watching.due(this.#dueMs);
      },
      (error: unknown) => this.end({ error }),
    );
  }

  async #tellCompacted(oldest: number): Promise<void> {
    const { job } = await this.#watching.now.shown();
    const view = { job, progress: undefined };
    if (this.#isOver) return;
    this.#sentMs = performance.now();
    await this.#watching.take(live('COMPACTED', view, 'earlier revisions are not kept any more', oldest));
  }
}

export function live(
  type: 'SNAPSHOT' | 'COMPACTED' | 'HEARTBEAT',
  { job, progress }: JobView,
  detail: string,
  oldestRevision?: number,
): JobEvent {
  return new JobEvent({ type, time: timestamp(), job, progress, detail, oldestRevision });
}
