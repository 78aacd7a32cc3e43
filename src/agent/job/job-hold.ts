/** One job's part in the hold of its guest: what its journal tells of it, and that it lets go, whatever comes between. */
import { DRAIN } from '../../core/qemu/drain.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { GuestHold } from './guest-hold.ts';

/** The hold of a VM's guest, for all its jobs. */
export type HoldOf = (machine: VirtualMachine) => Pick<GuestHold, 'hold' | 'release'>;

export class JobHold {
  readonly #log: JobLog;
  readonly #holdOf: HoldOf;
  /** The guest is held for this job no longer, and its hold may not know it. */
  #letsGo = false;

  constructor(log: JobLog, holdOf: HoldOf) {
    this.#log = log;
    this.#holdOf = holdOf;
  }

  get #job(): string {
    return this.#log.job.accepted.job;
  }

  /** Resolves when the guest stands still. Rejects as the hold does. What hangs keeps it from being begun. */
  async hold(because: string, machine: VirtualMachine): Promise<void> {
    await machine.execute(DRAIN);
    if (!this.#log.job.guestHeld) await this.#log.append({ entry: 'guest-held', because });
    this.#letsGo = false;
    await this.#holdOf(machine).hold(this.#job, because);
  }

  /**
   * Written down first: whoever reads a journal in which the guest is held knows that it has written nothing since. The
   * guest does not wait for a journal that cannot be written: it goes on, and that is written down later.
   */
  async release(machine: VirtualMachine): Promise<void> {
    this.#letsGo = true;
    try {
      await this.#log.append({ entry: 'guest-released' });
    } finally {
      await this.letGo(machine);
    }
  }

  /** Tells the hold what it may not have heard: what follows in the journal is of a guest that goes on. */
  async letGo(machine: VirtualMachine): Promise<void> {
    if (!this.#letsGo) return;
    await this.#holdOf(machine).release(this.#job);
    this.#letsGo = false;
  }
}
