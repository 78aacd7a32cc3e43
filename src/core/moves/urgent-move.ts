/** What cannot wait for an answer of QEMU: on a network destination that hangs it gives none. */
import { hasEnded, type Job } from '../job/job.ts';
import { isOverNetwork, isYanked } from '../job/job-facts.ts';
import { namesOf } from '../job/names.ts';
import type { QmpCommand } from '../qemu/commands.ts';
import type { Asked } from './moves.ts';
import { firstOf, inOrder, type Written } from './rows.ts';
import type { Situation } from './situation.ts';

type Urgent = Pick<Situation, 'job' | 'asked'>;

/** Whose connections are to be broken. */
export type UrgentMove =
  /** The job's own. */
  | 'YANK'
  /** Those of all copies in this QEMU on which no guest can be: `stop`, say, waits for every one of them. */
  | 'YANK_COPIES';

/** They do not wait for a look at QEMU. */
const URGENT_ROWS: Written<Urgent, UrgentMove> = {
  'guest held, or QEMU silent, for far too long | waits for a network destination | breaks, after 6 seconds, the connections of all copies of this VM that the guest cannot be on: they fail, and the guest goes on':
    ({ asked }) => asked.has('waitsFarTooLong') && 'YANK_COPIES',
  'concluded, and not to wait for its clean-up | a network destination, maybe hung, that the guest is not on | breaks the connection (`yank`): closing the node would wait for the server, too':
    ({ job, asked }) => job.giveUpRequested && mayBeBroken(job) && !asked.has('yank') && 'YANK',
  'to be ended by force | a network destination, maybe hung | breaks the connection (`yank`), whatever else it waits for':
    ({ job, asked }) => job.concluded === undefined && isYanked(job) && !asked.has('yank') && 'YANK',
  'asked to end | over the network, nothing left, stuck | breaks the connection after 6 seconds: the guest’s disk waits meanwhile':
    ({ job, asked }) =>
      job.concluded === undefined && isOverNetwork(job) && asked.has('endsTooLong') && !asked.has('yank') && 'YANK',
};

export const URGENT = inOrder(URGENT_ROWS);

export function urgentMove(job: Job, asked: Asked): UrgentMove | undefined {
  return firstOf(URGENT, { job, asked })?.move;
}

/**
 * Its connection may be broken, and harms no guest: none can be on its destination. Once a pivot was asked for, one may be
 * at any moment, until it is known where the disk is.
 */
export function mayBeBroken(job: Job): boolean {
  if (!isOverNetwork(job) || hasEnded(job)) return false;
  return job.concluded === undefined ? !job.pivotRequested : job.concluded.deviceOn === 'SOURCE';
}

export function yankOf(job: string): QmpCommand {
  const instances = [{ type: 'block-node', 'node-name': namesOf(job).file }] as const;
  return { execute: 'yank', arguments: { instances } };
}
