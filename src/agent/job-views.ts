/** Jobs as callers see them: each with its progress, and with nothing called safe to delete that is in use again. */
import type { JobView } from '../core/job-view.ts';
import { freeFiles } from './free-files.ts';
import { graphsOf, holderAmong } from './graphs.ts';
import type { JobLog } from './job-log.ts';
import type { Progresses } from './progresses.ts';
import type { VirtualMachines } from './virtual-machines.ts';

export class JobViews {
  readonly #machines: VirtualMachines;
  readonly #progresses: Progresses;

  constructor(machines: VirtualMachines, progresses: Progresses) {
    this.#machines = machines;
    this.#progresses = progresses;
  }

  of(log: JobLog): JobView {
    return { job: log.job, progress: this.#progresses.of(log.job) };
  }

  /** Asks QEMU how far they are, and what is in use now. */
  async now(logs: readonly JobLog[]): Promise<readonly JobView[]> {
    await Promise.all(logs.map(async (log) => await this.#progresses.refresh(log)));
    const isNamed = logs.some(({ job }) => job.outcome.safeToDelete.length > 0);
    const graphs = isNamed ? await graphsOf(this.#machines) : [];
    const holder = holderAmong(graphs);
    return await Promise.all(
      logs.map(async (log) => {
        const { outcome } = log.job;
        const safeToDelete = await freeFiles(log.job, outcome.safeToDelete, holder);
        return { job: { ...log.job, outcome: { ...outcome, safeToDelete } }, progress: this.of(log).progress };
      }),
    );
  }
}
