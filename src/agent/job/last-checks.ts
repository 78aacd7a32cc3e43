/** The checks right before the guest of a job moves. They take time, and so the situation may have changed after them. */
import type { Logger } from 'pino';
import { isFoundByName } from '../files/prove-file.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { AskedSoFar } from './asked-so-far.ts';

export interface LastChecks {
  readonly log: JobLog;
  readonly asked: AskedSoFar;
  /** Rejects if this host must not move the guest. */
  readonly mayPivot: () => Promise<void>;
  readonly logger: Logger;
}

/** Whether the guest may move, and the situation of the move is still the same. */
export async function passes(
  { log, asked, mayPivot, logger }: LastChecks,
  machine: VirtualMachine,
): Promise<'YES' | 'NO' | 'FENCED'> {
  const [before, identity] = [log.changed.now, machine.identity];
  try {
    asked.note({ is: 'destination-found', hasMoved: !(await isFoundByName(log.job, machine)) });
    await mayPivot();
    const isSame = log.changed.now === before && machine.identity === identity;
    return isSame && !asked.memory.destinationMoved ? 'YES' : 'NO';
  } catch (error) {
    logger.info({ why: String(error) }, 'The pivot waits');
    asked.note({ is: 'fenced' });
    return 'FENCED';
  }
}
