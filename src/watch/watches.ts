/** The watchers of jobs here: all watchers of one job share its feed, and their number is limited. */
import type { Call } from '../core/block-jobs.ts';
import { fail } from '../core/errors.ts';
import type { JobEvent } from '../core/job/job-event.ts';
import type { WatchRequest } from '../core/requests.ts';
import { progressIntervalMs } from '../core/rules/list.ts';
import type { Feed } from './feed.ts';
import { follow, type JobNow } from './follow.ts';

export class Watches<Watched extends Feed> {
  readonly #limit: number;
  readonly #watched = new Map<string, { readonly feed: Watched; watchers: number }>();

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

  /** Throws REVISION_UNKNOWN, TOO_MANY_WATCHERS. */
  async *watch(now: JobNow, open: () => Watched, request: WatchRequest, { signal }: Call): AsyncGenerator<JobEvent> {
    const { accepted, revision: last } = now.known.job;
    const { job } = accepted;
    const { afterRevision } = request;
    const intervalMs = progressIntervalMs(request);
    if (afterRevision !== undefined && afterRevision > last) {
      fail('REVISION_UNKNOWN', { job, revision: afterRevision, last });
    }
    const known = this.#watched.get(job);
    // A failed feed stays for the watchers that have not read its error yet.
    const watched = known === undefined || known.feed.failed !== undefined ? { feed: open(), watchers: 0 } : known;
    if (watched.watchers >= this.#limit) fail('TOO_MANY_WATCHERS', { job, limit: this.#limit });
    this.#watched.set(job, watched);
    watched.watchers += 1;
    try {
      using _part = watched.feed.join(intervalMs);
      yield* follow(watched.feed, now, { afterRevision, intervalMs }, signal);
    } finally {
      watched.watchers -= 1;
      if (watched.watchers === 0 && this.#watched.get(job) === watched) this.#watched.delete(job);
    }
  }
}
