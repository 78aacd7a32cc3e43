/** What is done for a VM that can be asked, again or for the first time: what nobody looks after is found. */
import type { Logger } from 'pino';
import { HOLD_LIMIT_MS } from '../../core/moves/circumstances.ts';
import { inTime } from '../../lib/in-time.ts';
import type { GuestHolds } from '../job/guest-holds.ts';
import type { JobTable } from '../job/job-table.ts';
import type { WhoseJobs } from '../job/whose-jobs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { recoverLost } from './lost-journal.ts';

/** Never rejects. A guest that is held goes on when it is written down what its job has come to, or after its time. */
export async function takeUp(
  machine: VirtualMachine,
  options: { readonly host: string; readonly whose: WhoseJobs; readonly holds: GuestHolds; readonly logger: Logger },
  table: JobTable,
): Promise<void> {
  const recovery = recoverLost(machine, options, table);
  await inTime(recovery, HOLD_LIMIT_MS);
  await options.holds.found(machine, (job) => table.holdsGuest(job));
  await recovery;
}
