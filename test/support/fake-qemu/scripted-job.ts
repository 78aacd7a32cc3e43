/** A job whose journal grows when a test says so, shown by any number of servers in the test's own process. */
import type { BlockJobs, Call } from '../../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../../src/core/errors.ts';
import { type EventFacts, JobEvent } from '../../../src/core/job/job-event.ts';
import { type JobView, publicJob } from '../../../src/core/job/job-view.ts';
import type { WatchRequest } from '../../../src/core/requests.ts';
import { Wake } from '../../../src/lib/wake.ts';
import { jobOf } from '../../unit/core/stories.ts';
import { until } from '../until.ts';

const base = publicJob(jobOf());

export class ScriptedJob {
  /** The requests, one for each stream. */
  readonly asked: WatchRequest[] = [];
  /** The last revision, at which it ends. */
  readonly endsAt: number;
  readonly changed = new Wake();
  oldest = 1;
  #last = 1;
  #open = 0;
  #broken = 0;

  constructor(endsAt = 6) {
    this.endsAt = endsAt;
  }

  get last(): number {
    return this.#last;
  }

  /** The number of open streams. */
  get open(): number {
    return this.#open;
  }

  grow(to: number): void {
    this.#last = to;
    this.changed.notify();
  }

  /** Ends all streams, as a gateway whose agent is down. */
  break(): void {
    this.#broken += 1;
    this.changed.notify();
  }

  /** Resolves when that many streams are open. */
  async opened(count: number): Promise<void> {
    await until(`${count} streams`, this.changed, () => this.#open === count);
  }

  viewAt(revision: number): JobView {
    return {
      job: { ...base, revision, state: revision >= this.endsAt ? 'COMPLETED' : 'RUNNING' },
      progress: undefined,
    };
  }

  event(type: JobEvent['type'], revision: number, more: Partial<EventFacts> = {}): JobEvent {
    const [time, detail] = [base.createTime, `${type} ${revision}`];
    return new JobEvent({ ...this.viewAt(revision), type, time, detail, ...more });
  }

  readonly watch: BlockJobs['watch'] = (request: WatchRequest, call: Call) => this.#watch(request, call);

  async *#watch(request: WatchRequest, { signal }: Call): AsyncGenerator<JobEvent> {
    this.asked.push(request);
    this.#open += 1;
    const broken = this.#broken;
    try {
      let cursor = request.afterRevision ?? this.#last;
      if (cursor < this.oldest - 1) {
        cursor = this.oldest - 1;
        yield this.event('COMPACTED', this.#last, { oldestRevision: this.oldest });
      }
      if (request.afterRevision === undefined) yield this.event('SNAPSHOT', cursor);
      this.changed.notify();
      while (!signal.aborted) {
        const before = this.changed.now;
        if (broken !== this.#broken) throw new BlockJobError(failure('HOST_UNREACHABLE', { host: 'h', why: 'a test' }));
        if (cursor < this.#last) {
          cursor += 1;
          yield this.event('STATE', cursor);
        } else if (cursor >= this.endsAt) return;
        else await this.changed.after(before, { signal });
      }
    } finally {
      this.#open -= 1;
      this.changed.notify();
    }
  }
}
