/**
 * The last that one host has told of all its jobs, for all who watch them there: so much, and no more. Who is behind it gets
 * the rest from where all of it is kept.
 */
import type { Failure } from '../core/errors.ts';
import { hasEnded } from '../core/job/job.ts';
import type { JobEvent } from '../core/job/job-event.ts';
import type { Position } from '../core/jobs-message.ts';
import { Wake } from '../lib/wake.ts';

export interface RecentMessage {
  readonly at: number;
  readonly event: JobEvent;
}

export class Recent {
  readonly changed = new Wake();
  /** The latest of each job that goes on. Nobody is woken for it. */
  readonly progress = new Map<string, JobEvent>();
  readonly #limit: number;
  /** Undefined: nothing is kept yet. */
  #epoch: string | undefined;
  #start = 0;
  #end = 0;
  #told: RecentMessage[] = [];
  #rounds = 0;
  #trouble: Failure | undefined;

  /** So many events are kept. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** What was kept before is no part of what comes. */
  begin({ epoch, at }: Position): void {
    this.end();
    this.#epoch = epoch;
    this.#start = at;
    this.#end = at;
    this.changed.notify();
  }

  /** Nothing is kept any more. */
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
    if (hasEnded(job)) this.progress.delete(job.accepted.job);
    // In one go, as each time costs all that are kept.
    if (this.#told.length >= 2 * this.#limit) {
      const gone = this.#told.splice(0, this.#told.length - this.#limit);
      this.#start = gone.at(-1)?.at ?? this.#start;
    }
    this.changed.notify();
  }

  /** Nothing more was told up to here. */
  moveOn(at: number): void {
    this.#end = Math.max(this.#end, at);
  }

  /** Everything after this is kept. */
  holds({ epoch, at }: Position): boolean {
    return epoch === this.#epoch && at >= this.#start;
  }

  /** The first after a place that is held. Undefined: that was the last. */
  after(at: number): RecentMessage | undefined {
    let [low, high] = [0, this.#told.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#told[middle]?.at ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    return this.#told[low];
  }

  /** Undefined: nothing is kept. */
  get position(): Position | undefined {
    return this.#epoch === undefined ? undefined : { epoch: this.#epoch, at: this.#end };
  }

  /** Counts up when all who watch have to ask again whether they have everything. */
  get rounds(): number {
    return this.#rounds;
  }

  newRound(): void {
    this.#rounds += 1;
    this.changed.notify();
  }

  /** Why nothing comes at the moment. */
  get trouble(): Failure | undefined {
    return this.#trouble;
  }

  set trouble(why: Failure | undefined) {
    this.#trouble = why;
    if (why !== undefined) this.changed.notify();
  }
}
