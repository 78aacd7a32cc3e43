/**
 * The clock of a state folder. It counts the time that has passed for certain, and nobody can set it: within one boot the
 * kernel's monotonic clock goes on while no service runs. What passes between the last entry of a journal and the next boot is
 * not seen, and not counted: what is judged by it comes late at worst.
 */
import type { ClockStamp } from '../../core/job/journal-entry.ts';
import { bootId, linkOf } from './proc.ts';

export interface Kernel {
  /** Since the host was booted; it only goes forward. */
  readonly upMs: () => number;
  /** The boot and the time namespace in which that counts, as far as /proc tells. */
  readonly counts: string;
}

export class HostClock {
  readonly #kernel: Kernel;
  readonly #startedUpMs: number;
  /** What is added to the kernel's. A folder that tells of no time begins with zero. */
  #offsetMs: number;
  #lastMs = -1;

  constructor(kernel: Kernel = OURS) {
    this.#kernel = kernel;
    this.#startedUpMs = this.#upMs;
    this.#offsetMs = -this.#startedUpMs;
  }

  /** What a service before this one has seen: the clock is not behind it. */
  learn({ ms, upMs, counts }: ClockStamp): void {
    const nowUpMs = this.#upMs;
    // Where /proc does not tell the boot it may be another one: then this is less than what has passed.
    const passedMs = counts === this.#kernel.counts ? Math.max(0, nowUpMs - upMs) : 0;
    this.#offsetMs = Math.max(this.#offsetMs, ms + passedMs - nowUpMs);
    this.#lastMs = Math.max(this.#lastMs, ms);
  }

  /** Whole ones: sums of them are exact. */
  get #upMs(): number {
    return Math.floor(this.#kernel.upMs());
  }

  get nowMs(): number {
    return this.#upMs + this.#offsetMs;
  }

  /** When this service began, by this clock. */
  get startedMs(): number {
    return this.#startedUpMs + this.#offsetMs;
  }

  /** For an entry: of two the later one has the higher number. */
  stamp(): ClockStamp {
    this.#lastMs = Math.max(this.#lastMs + 1, this.nowMs);
    return { ms: this.#lastMs, upMs: this.#upMs, counts: this.#kernel.counts };
  }
}

const OURS: Kernel = {
  upMs: () => Number(process.hrtime.bigint()) / 1e6,
  counts: [bootId() ?? '', linkOf('/proc/self/ns/time') ?? ''].join(' '),
};
