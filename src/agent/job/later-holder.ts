/** A job that was begun later and has a file in its disk, or in its copy, has it: its VM may be off, and nobody have it open. */
import type { LaterJobs } from '../../core/job/later-jobs.ts';
import { fileNamesOf } from '../host/used-files.ts';
import { graphsOf, type Holders, holderAmong } from '../qemu/graphs.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

/** Who has a file now, of the VMs and the jobs that were begun after this one. */
export async function holderSince(job: string, machines: VirtualMachines, later: () => LaterJobs): Promise<Holders> {
  return orLaterJob(holderAmong(await graphsOf(machines)), job, later());
}

/** `holder`, or else a job that was begun after `job`. */
export function orLaterJob(holder: Holders, job: string, later: LaterJobs): Holders {
  return async (path) => {
    const by = await holder(path);
    if (by !== undefined) return by;
    const user = later.withFile(job, await fileNamesOf(path));
    return user === undefined ? undefined : usedBy(user);
  };
}

export function usedBy(job: string): string {
  return `job ${job}, which has used it since`;
}
