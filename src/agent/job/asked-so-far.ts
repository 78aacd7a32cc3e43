/** The memory of one job (core/memory), by the clocks of this host. */

import type { Job } from '../../core/job/job.ts';
import { askedNow, NOTHING_HEARD } from '../../core/moves/circumstances.ts';
import { type Happening, type Memory, memoryOf, remember } from '../../core/moves/memory.ts';
import type { Move, Seen } from '../../core/moves/moves.ts';
import { nextMove } from '../../core/moves/next-move.ts';
import { waitsFor } from '../../core/moves/waits-for.ts';
import { type HostClock, throttleLeftMs, timeLeftMs } from '../host/host-clock.ts';

export class AskedSoFar {
  readonly #clock: HostClock;
  readonly #onWaits: (waits: string) => void;
  #memory: Memory;

  /** `onWaits` is called at each decision, with the reason why a requested end is not done. */
  constructor(job: Job, clock: HostClock, onWaits: (waits: string) => void) {
    this.#clock = clock;
    this.#onWaits = onWaits;
    this.#memory = memoryOf(job, performance.now());
  }

  get memory(): Memory {
    return this.#memory;
  }

  get moment() {
    const { job } = this.#memory;
    const leftMs = timeLeftMs(job, this.#clock);
    return { nowMs: performance.now(), leftMs, throttleLeftMs: throttleLeftMs(job, this.#clock) };
  }

  note(what: Happening): void {
    this.#memory = remember(this.#memory, what, performance.now());
  }

  /** Decides the moves after a look, also of a job to which an entry was added since. */
  decider(seen: Seen, connectionBroken: boolean): (job: Job) => Move {
    const { asked, refused } = this.now({ ...NOTHING_HEARD, connectionBroken });
    return (job) => {
      this.#onWaits(waitsFor(job, seen, asked));
      return nextMove(job, seen, asked, refused);
    };
  }

  now(heard = NOTHING_HEARD) {
    return askedNow(this.#memory, this.moment, heard);
  }
}
