/**
 * The latest events of all jobs of one host, shared by its watchers. The number of events is limited. A watcher that is
 * further behind reads from the journals.
 */
import type { Failure } from '../core/errors.ts';
import type { JobEvent } from '../core/job/job-event.ts';
import { isOver } from '../core/job/job-view.ts';
import type { Position } from '../core/jobs-message.ts';
import { Wake } from '../lib/wake.ts';

export interface RecentMessage {
  readonly at: number;
  readonly event: JobEvent;
}

export class Recent {
  readonly changed = new Wake();
  /** The latest progress of each running job. A new one does not wake watchers. */
  readonly progress = new Map<string, JobEvent>();
  readonly #limit: number;
  /** Undefined if nothing is kept. */
  #epoch: string | undefined;
  #start = 0;
  #end = 0;
  #told: RecentMessage[] = [];
  #rounds = 0;
  #trouble: Failure | undefined;

  /** `limit`: the number of events that are kept. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Forgets the kept events, and keeps those after this position. */
  begin({ epoch, at }: Position): void {
    this.end();
    this.#epoch = epoch;
    this.#start = at;
    this.#end = at;
    this.changed.notify();
  }

  /** Forgets everything. */
  end(): void {
    this.#epoch = undefined;
    this.#told = [];
    this.progress.clear();
    this.changed.notify();
  }

  push(at: number, event: JobEvent): void {
    if (at <= this.#end) return;
    this.#end = at;
    this.#told.push({ at, event });
    const { job } = event;
    if (isOver(job)) this.progress.delete(job.accepted.job);
    // Many are removed at once, because a removal moves all kept events.
    if (this.#told.length >= 2 * this.#limit) {
      const gone = this.#told.splice(0, this.#told.length - this.#limit);
      this.#start = gone.at(-1)?.at ?? this.#start;
    }
    this.changed.notify();
  }

  /** Nothing happened up to this position. */
  moveOn(at: number): void {
    this.#end = Math.max(this.#end, at);
  }

  /** Whether all events after this position are kept. */
  holds({ epoch, at }: Position): boolean {
    return epoch === this.#epoch && at >= this.#start;
  }

  /** The first event after a position that is held; undefined if there is none. */
  after(at: number): RecentMessage | undefined {
    let [low, high] = [0, this.#told.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#told[middle]?.at ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    return this.#told[low];
  }

  /** The end of the kept events; undefined if nothing is kept. */
  get position(): Position | undefined {
    return this.#epoch === undefined ? undefined : { epoch: this.#epoch, at: this.#end };
  }

  /** Goes up when all watchers have to check again whether they have everything. */
  get rounds(): number {
    return this.#rounds;
  }

  newRound(): void {
    this.#rounds += 1;
    this.changed.notify();
  }

  /** Why no events come now; undefined if they do. */
  get trouble(): Failure | undefined {
    return this.#trouble;
  }

  set trouble(why: Failure | undefined) {
    this.#trouble = why;
    if (why !== undefined) this.changed.notify();
  }
}
