/** The memory of one job (core/memory), by the clocks of this host. */

import type { Job } from '../../core/job/job.ts';
import { askedNow, NOTHING_HEARD } from '../../core/moves/circumstances.ts';
import { type Happening, type Memory, memoryOf, remember } from '../../core/moves/memory.ts';
import { type HostClock, timeLeftMs } from '../host/host-clock.ts';

export class AskedSoFar {
  readonly #clock: HostClock;
  #memory: Memory;

  constructor(job: Job, clock: HostClock) {
    this.#clock = clock;
    this.#memory = memoryOf(job, performance.now());
  }

  get memory(): Memory {
    return this.#memory;
  }

  get moment() {
    return { nowMs: performance.now(), leftMs: timeLeftMs(this.#memory.job, this.#clock) };
  }

  note(what: Happening): void {
    this.#memory = remember(this.#memory, what, performance.now());
  }

  now(heard = NOTHING_HEARD) {
    return askedNow(this.#memory, this.moment, heard);
  }
}
