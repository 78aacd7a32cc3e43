/**
 * The clock of a state folder. It counts time that has certainly passed, and nobody can set it: within one boot the
 * kernel's monotonic clock continues while no service runs. The time between the last entry of a journal and the next
 * boot is not counted: decisions by this clock come late at worst.
 */

import type { Job } from '../../core/job/job.ts';
import type { ClockStamp } from '../../core/job/journal-entry.ts';
import { EntryOrder } from './entry-order.ts';
import { bootId, linkOf } from './proc.ts';

export interface Kernel {
  /** The time since the boot of the host; it never goes back. */
  readonly upMs: () => number;
  /** The boot and the time namespace of that number, if /proc shows them. */
  readonly counts: string;
}

export class HostClock {
  /** The order of the entries of the folder. */
  readonly order = new EntryOrder(
    () => this.stamp(),
    () => this.#lastMs,
  );
  readonly #kernel: Kernel;
  readonly #startedUpMs: number;
  /** The number added to the kernel's clock. A folder without a time begins with zero. */
  #offsetMs: number;
  #lastMs = -1;

  constructor(kernel: Kernel = OURS) {
    this.#kernel = kernel;
    this.#startedUpMs = this.#upMs;
    this.#offsetMs = -this.#startedUpMs;
  }

  /** A time that an earlier service has seen: the clock is not behind it. */
  learn({ ms, upMs, counts }: ClockStamp): void {
    const nowUpMs = this.#upMs;
    // If /proc does not show the boot it may be another one: then this is less than the time that has passed.
    const passedMs = counts === this.#kernel.counts ? Math.max(0, nowUpMs - upMs) : 0;
    this.#offsetMs = Math.max(this.#offsetMs, ms + passedMs - nowUpMs);
    this.#lastMs = Math.max(this.#lastMs, ms);
  }

  /** Learns the position of an entry of an earlier service. */
  isAfter(position: number): void {
    this.#lastMs = Math.max(this.#lastMs, position);
  }

  /** Whole milliseconds: sums of them are exact. */
  get #upMs(): number {
    return Math.floor(this.#kernel.upMs());
  }

  get nowMs(): number {
    return this.#upMs + this.#offsetMs;
  }

  /** When this service began, on this clock. */
  get startedMs(): number {
    return this.#startedUpMs + this.#offsetMs;
  }

  /** For an entry: the later of two has the higher number. */
  stamp(): ClockStamp {
    this.#lastMs = Math.max(this.#lastMs + 1, this.nowMs);
    return { ms: this.#lastMs, upMs: this.#upMs, counts: this.#kernel.counts };
  }
}

const OURS: Kernel = {
  upMs: () => Number(process.hrtime.bigint()) / 1e6,
  counts: [bootId() ?? '', linkOf('/proc/self/ns/time') ?? ''].join(' '),
};

/**
 * The time until the job's own limit; it passes also while no agent runs. Infinity if there is none. For an older
 * journal without a time on this clock it counts from the begin of this service.
 */
export function timeLeftMs({ accepted, beganMs }: Job, clock: HostClock): number {
  const { timeLimitMs } = accepted.options;
  return timeLimitMs === undefined ? Infinity : (beganMs ?? clock.startedMs) + timeLimitMs - clock.nowMs;
}

/** The time until its guest may not be slowed down any longer, likewise. Not positive if the request is not known. */
export function throttleLeftMs({ accepted, throttle }: Job, clock: HostClock): number {
  if (throttle?.is !== 'IN_FORCE' && throttle?.is !== 'REQUESTED') return Infinity;
  const mostMs = accepted.options.endPolicy?.guestThrottle?.maxDurationMs ?? 0;
  return (throttle.sinceMs ?? clock.startedMs) + mostMs - clock.nowMs;
}
