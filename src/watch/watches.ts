/** Who watches jobs here: all who watch one share its feed, for as long as anybody does, and they are bounded. */
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

  /** `limit`: so many may watch one job, so that no client can take all there is. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many jobs are watched. */
  get jobs(): number {
    return this.#watched.size;
  }

  /** By how many, all jobs together. */
  get watchers(): number {
    return this.#watched.values().reduce((sum, { watchers }) => sum + watchers, 0);
  }

  /** Undefined: nobody watches the job. */
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
    // One that has failed stays for those who have not read yet why.
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
