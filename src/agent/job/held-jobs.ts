/** The block jobs of a VM during the `stop` of its hold: they stand still, and go on, also if the service dies meanwhile. */
import type { Logger } from 'pino';
import type { WrittenHold } from '../journal/written-hold.ts';
import { isUnreachable } from '../qemu/failures.ts';
import type { Standstill } from '../qemu/standstill.ts';

export class HeldJobs {
  readonly #standstill: Pick<Standstill, 'begin' | 'end'>;
  readonly #hold: WrittenHold;
  readonly #logger: Logger;

  constructor(standstill: Pick<Standstill, 'begin' | 'end'>, hold: WrittenHold, logger: Logger) {
    this.#standstill = standstill;
    this.#hold = hold;
    this.#logger = logger;
  }

  /** They go on at once after `work`: a pivot needs that, and the guest waits for it. */
  async stand(work: () => Promise<void>): Promise<void> {
    try {
      await this.#standstill.begin(async (jobs) => await this.#hold.pauses(jobs));
      await work();
    } finally {
      await this.goOn();
    }
  }

  /** While QEMU cannot be asked they stay in the record, and go on when it can. */
  async goOn(): Promise<void> {
    const { pausedJobs } = this.#hold.now;
    if (pausedJobs.length === 0) return;
    try {
      await this.#standstill.end(pausedJobs);
      // On disk with the next change: a job that goes on is not harmed by another `job-resume`.
      this.#hold.now = { ...this.#hold.now, pausedJobs: [] };
    } catch (error) {
      if (!isUnreachable(error)) throw error;
      this.#logger.info({ jobs: pausedJobs }, 'QEMU went away before its jobs were resumed');
    }
  }
}
