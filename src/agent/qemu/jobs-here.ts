/**
 * Our jobs that QEMU has listed, or reported, over the present connection. If a job was running at QEMU's last report
 * its guest has not moved: QEMU reports the end of a job before it moves the guest.
 */
import { isJobId } from '../../core/job/names.ts';
import { takesChanges } from '../../core/moves/wishes.ts';
import type { QemuJob } from '../../core/qemu/replies.ts';
import type { QmpEvent } from '../../qmp/monitor.ts';

const KEPT = 10_000;

export class JobsHere {
  readonly #isUnderWay = new Map<string, boolean>();

  take({ event, data }: QmpEvent): void {
    const { id, status } = data ?? {};
    if (event !== 'JOB_STATUS_CHANGE' || typeof id !== 'string' || !this.has(id)) return;
    this.#isUnderWay.set(id, typeof status === 'string' && takesChanges(status));
  }

  /** All jobs that QEMU lists now. */
  listed(jobs: readonly QemuJob[]): void {
    for (const id of this.#isUnderWay.keys()) this.#isUnderWay.set(id, false);
    for (const { id, status } of jobs) if (isJobId(id)) this.#isUnderWay.set(id, takesChanges(status));
    // Nobody asks whether a job that ended long ago was here.
    const [...known] = this.#isUnderWay.keys();
    for (const id of known.slice(0, -KEPT)) this.#isUnderWay.delete(id);
  }

  /** Other signs show that QEMU has, or had, this job. */
  know(job: string): void {
    if (!this.has(job)) this.#isUnderWay.set(job, false);
  }

  has(job: string): boolean {
    return this.#isUnderWay.has(job);
  }

  isUnderWay(job: string): boolean {
    return this.#isUnderWay.get(job) === true;
  }
}
