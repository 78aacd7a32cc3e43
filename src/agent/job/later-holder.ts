/** A later job that has a file in its disk or its copy owns it: its VM may be off, so that no process has the file open. */
import type { LaterJobs } from '../../core/job/later-jobs.ts';
import { fileNamesOf } from '../host/used-files.ts';
import { graphsOf, type Holders, holderAmong } from '../qemu/graphs.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

/** The owner of a file now, out of the VMs and the later jobs. */
export async function holderSince(job: string, machines: VirtualMachines, later: () => LaterJobs): Promise<Holders> {
  return orLaterJob(holderAmong(await graphsOf(machines)), job, later());
}

/** `holder`, or a job that was begun after `job`. */
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
