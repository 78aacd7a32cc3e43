/** Of the jobs of one QEMU those whose connections may be broken, as the guest waits for one of them and nobody knows which. */
import { hasEnded, isOverNetwork, type Job } from '../core/job.ts';
import type { JobLog } from './job-log.ts';
import type { VirtualMachines } from './virtual-machines.ts';

/** Other copies over the network, on whose destination no guest can be: once a pivot was asked for, it may be at any moment. */
export function copiesBeside(
  { accepted }: Job,
  logs: readonly JobLog[],
  machines: Pick<VirtualMachines, 'of'>,
): readonly Job[] {
  const machine = machines.of(accepted);
  return logs
    .map(({ job }) => job)
    .filter((job) => !hasEnded(job) && job.concluded === undefined && !job.pivotRequested && isOverNetwork(job))
    .filter((job) => job.accepted.job !== accepted.job && machines.of(job.accepted) === machine);
}
