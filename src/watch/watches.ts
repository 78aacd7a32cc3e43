/** The watchers of jobs here: all watchers of one job are a crowd, and their number is limited. */
import type { Call } from '../core/block-jobs.ts';
import { fail } from '../core/errors.ts';
import type { JobEvent } from '../core/job/job-event.ts';
import type { JobView } from '../core/job/job-view.ts';
import type { WatchRequest } from '../core/requests.ts';
import { progressIntervalMs } from '../core/rules/list.ts';
import { keepYoungSpace } from '../lib/heap.ts';
import { Pushed, type Take } from '../lib/pushed.ts';
import { Crowd } from './crowd.ts';
import { type Begin, live } from './cursor.ts';
import type { Feed } from './feed.ts';

/** The job when the watch begins. */
export interface JobNow {
  /** The job after its last entry. */
  readonly known: JobView;
  /** The job as callers see it now; the journal of an ended job may be out of date. */
  readonly shown: () => Promise<JobView>;
}

/** Streams and cursors last. From this number of watchers on, a larger young generation would be much of the memory. */
const MANY = 500;

export class Watches<Watched extends Feed> {
  readonly #limit: number;
  readonly #watched = new Map<string, Crowd<Watched>>();

  /** `limit`: the most watchers of one job, so that no client can take all resources. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many jobs are watched. */
  get jobs(): number {
    return this.#watched.size;
  }

  /** The number of watchers of all jobs. */
  get watchers(): number {
    return this.#watched.values().reduce((sum, { watchers }) => sum + watchers, 0);
  }

  /** Undefined if the job has no watcher. */
  feedOf(job: string): Watched | undefined {
    return this.#watched.get(job)?.feed;
  }

  /** Fails with REVISION_UNKNOWN, TOO_MANY_WATCHERS. */
  watch({ known, shown }: JobNow, open: () => Watched, request: WatchRequest, { signal }: Call): Pushed<JobEvent> {
    return new Pushed(async (take) => {
      const { accepted, revision: last } = known.job;
      const { job } = accepted;
      const { afterRevision } = request;
      const intervalMs = progressIntervalMs(request);
      if (afterRevision !== undefined && afterRevision > last) {
        fail('REVISION_UNKNOWN', { job, revision: afterRevision, last });
      }
      const before = this.#watched.get(job);
      // A failed feed stays for the watchers that have not read its error yet.
      const crowd = before === undefined || before.feed.failed !== undefined ? new Crowd(open()) : before;
      if (crowd.watchers >= this.#limit) fail('TOO_MANY_WATCHERS', { job, limit: this.#limit });
      this.#watched.set(job, crowd);
      const part = crowd.enter(intervalMs);
      if (crowd.watchers === MANY) keepYoungSpace();
      try {
        const begun =
          afterRevision === undefined ? snapshot(shown, take) : Promise.resolve(after(afterRevision, known));
        // Not awaited here: the beginning would be kept in memory for as long as the watch lasts.
        await begun.then((begin) => crowd.follow(begin, { shown, intervalMs, take }, signal));
      } finally {
        part[Symbol.dispose]();
        if (crowd.watchers === 0 && this.#watched.get(job) === crowd) this.#watched.delete(job);
      }
    });
  }
}

async function snapshot(shown: JobNow['shown'], take: Take<JobEvent>): Promise<Begin> {
  const first = live('SNAPSHOT', await shown(), 'the job as it is');
  await take(first);
  return { at: first.job.revision, sent: first };
}

function after(revision: number, known: JobView): Begin {
  return { at: revision, sent: revision === known.job.revision ? known : undefined };
}
