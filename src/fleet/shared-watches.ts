/** Who watches jobs through this gateway: each sees every revision once and in order, as an agent shows it. */
import type { Call, JobEvent } from '../core/block-jobs.ts';
import { fail } from '../core/errors.ts';
import { hasEnded } from '../core/job.ts';
import type { JobView } from '../core/job-view.ts';
import type { WatchRequest } from '../core/requests.ts';
import { progressIntervalMs } from '../core/rules/list.ts';
import { timestamp } from '../lib/clock.ts';
import type { Agent } from './agents.ts';
import { SharedWatch } from './shared-watch.ts';

/** Longer silence looks like a dead connection. */
const HEARTBEAT_MS = 15_000;

export class SharedWatches {
  readonly #agentOf: (job: string, call: Call) => Promise<Agent>;
  readonly #limit: number;
  readonly #watches = new Map<string, SharedWatch>();

  constructor(agentOf: (job: string, call: Call) => Promise<Agent>, watchersPerJob: number) {
    this.#agentOf = agentOf;
    this.#limit = watchersPerJob;
  }

  /** The streams from agents. */
  get count(): number {
    return this.#watches.size;
  }

  /** Who reads them. */
  get watchers(): number {
    return this.#watches.values().reduce((sum, { watchers }) => sum + watchers, 0);
  }

  /** `view` is the job as its agent has just shown it. Ends after the event that ends the job. */
  async *watch(view: JobView, request: WatchRequest, { signal }: Call): AsyncGenerator<JobEvent> {
    const { accepted, revision: last } = view.job;
    const { job } = accepted;
    const { afterRevision } = request;
    if (afterRevision !== undefined && afterRevision > last) {
      fail('REVISION_UNKNOWN', { job, revision: afterRevision, last });
    }
    const intervalMs = progressIntervalMs(request);
    const known = this.#watches.get(job);
    // One that has failed stays for those who have not read yet why.
    const shared = known === undefined || known.failed !== undefined ? new SharedWatch(job, this.#agentOf) : known;
    if (shared.watchers >= this.#limit) fail('TOO_MANY_WATCHERS', { job, limit: this.#limit });
    this.#watches.set(job, shared);
    using leaving = new DisposableStack();
    leaving.use(shared.join(intervalMs));
    leaving.defer(() => {
      if (shared.watchers === 1 && this.#watches.get(job) === shared) this.#watches.delete(job);
    });

    let cursor = afterRevision ?? last;
    let [progressSent, sentAt]: [JobEvent | undefined, number] = [undefined, -Infinity];
    if (afterRevision === undefined) {
      yield { ...view, type: 'SNAPSHOT', time: timestamp(), detail: 'the job as it is' };
      if (hasEnded(view.job)) return;
    }
    let lastSentMs = performance.now();
    while (!signal.aborted) {
      const before = shared.changed.now;
      if (cursor < shared.oldest - 1 && shared.compacted !== undefined) {
        cursor = shared.oldest - 1;
        yield { ...shared.compacted, job: view.job };
        lastSentMs = performance.now();
        continue;
      }
      const next = shared.at(cursor + 1);
      if (next !== undefined) {
        cursor += 1;
        yield next;
        lastSentMs = performance.now();
        if (hasEnded(next.job)) return;
        continue;
      }
      if (cursor === last && hasEnded(view.job)) return;
      if (shared.failed !== undefined) throw shared.failed;
      const { progress } = shared;
      const isNew = progress !== undefined && progress !== progressSent && progress.job.revision === cursor;
      const dueInMs = sentAt + intervalMs - performance.now();
      if (isNew && dueInMs <= 0) {
        [progressSent, sentAt] = [progress, performance.now()];
        yield progress;
        lastSentMs = performance.now();
        continue;
      }
      const silentInMs = lastSentMs + HEARTBEAT_MS - performance.now();
      if (silentInMs > 0) {
        await shared.changed.after(before, { signal, timeoutMs: isNew ? Math.min(dueInMs, silentInMs) : silentInMs });
        continue;
      }
      // Whoever is cut off comes back with its revision: never one that this watcher has not been sent.
      const seen = shared.at(cursor) ?? (cursor === last ? view : undefined);
      if (seen !== undefined) {
        const { job: sent, progress: latest } = seen;
        yield { job: sent, progress: latest, type: 'HEARTBEAT', time: timestamp(), detail: '' };
      }
      lastSentMs = performance.now();
    }
  }
}
