/** One job's part in the hold of its guest: the entries in its journal, and the guarantee that it lets go. */
import { DRAIN } from '../../core/qemu/drain.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { GuestHold } from './guest-hold.ts';

/** The hold of a VM's guest, shared by all its jobs. */
export type HoldOf = (machine: VirtualMachine) => Pick<GuestHold, 'hold' | 'release'>;

export class JobHold {
  readonly #log: JobLog;
  readonly #holdOf: HoldOf;
  /** The guest is not held for this job any more, and its hold may not know it. */
  #letsGo = false;

  constructor(log: JobLog, holdOf: HoldOf) {
    this.#log = log;
    this.#holdOf = holdOf;
  }

  get #job(): string {
    return this.#log.job.accepted.job;
  }

  /** Resolves when the guest has stopped. Rejects as the hold does. Does not begin while QEMU hangs. */
  async hold(because: string, machine: VirtualMachine): Promise<void> {
    await machine.execute(DRAIN);
    if (!this.#log.job.guestHeld) await this.#log.append({ entry: 'guest-held', because });
    this.#letsGo = false;
    await this.#holdOf(machine).hold(this.#job, because);
  }

  /**
   * Written down first: a journal in which the guest is held proves that it has written nothing since. The guest does
   * not wait for a journal that cannot be written: it is resumed, and that is written down later.
   */
  async release(machine: VirtualMachine): Promise<void> {
    this.#letsGo = true;
    try {
      await this.#log.append({ entry: 'guest-released' });
    } finally {
      await this.letGo(machine);
    }
  }

  /** Tells the hold what it may have missed: the entries that follow are of a running guest. */
  async letGo(machine: VirtualMachine): Promise<void> {
    if (!this.#letsGo) return;
    await this.#holdOf(machine).release(this.#job);
    this.#letsGo = false;
  }
}
