/** Of the jobs of one QEMU those whose connections may be broken, as the guest waits for one of them and nobody knows which. */
import type { Job } from '../../core/job/job.ts';
import { mayBeBroken } from '../../core/moves/urgent-move.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

/** Other copies over the network, on whose destination no guest can be. */
export function copiesBeside(
  { accepted }: Job,
  logs: readonly JobLog[],
  machines: Pick<VirtualMachines, 'of'>,
): readonly JobLog[] {
  const machine = machines.of(accepted);
  return (
    logs
      .filter(({ job }) => mayBeBroken(job))
      .filter(({ job }) => job.accepted.job !== accepted.job && machines.of(job.accepted) === machine)
      // Another client may have completed one while nobody of us listened.
      .filter(({ job: { state, concluded, accepted: own } }) => {
        return concluded !== undefined || state === 'STARTING' || machine?.isUnderWay(own.job) === true;
      })
  );
}
