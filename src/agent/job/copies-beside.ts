/** The jobs of one QEMU whose connections may be broken if the guest waits for one of them, and it is unknown for which. */
import type { Job } from '../../core/job/job.ts';
import { mayBeBroken } from '../../core/moves/urgent-move.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

/** Other copies over the network, with destinations that no guest can be on. */
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
      // Another client may have completed one while we were not connected.
      .filter(({ job: { state, concluded, accepted: own } }) => {
        return concluded !== undefined || state === 'STARTING' || machine?.isUnderWay(own.job) === true;
      })
  );
}
