/** Work for a VM that can be asked, again or for the first time: finds jobs and holds that nobody handles. */
import type { Logger } from 'pino';
import { HOLD_LIMIT_MS } from '../../core/moves/circumstances.ts';
import { inTime } from '../../lib/in-time.ts';
import type { GuestHolds } from '../job/guest-holds.ts';
import type { JobTable } from '../job/job-table.ts';
import type { WhoseJobs } from '../job/whose-jobs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { recoverLost } from './lost-journal.ts';

/** Never rejects. A held guest is resumed once the state of its job is written down, or after its time. */
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
