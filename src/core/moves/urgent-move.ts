/** The moves that cannot wait for an answer of QEMU, which does not answer while a network destination hangs. */
import { hasEnded, type Job } from '../job/job.ts';
import { isOverNetwork, isYanked } from '../job/job-facts.ts';
import { namesOf } from '../job/names.ts';
import type { QmpCommand } from '../qemu/commands.ts';
import type { Asked } from './moves.ts';
import { firstOf, inOrder, type Written } from './rows.ts';
import type { Situation } from './situation.ts';

type Urgent = Pick<Situation, 'job' | 'asked'>;

/** The connections to break. */
export type UrgentMove =
  /** Those of the job itself. */
  | 'YANK'
  /** Those of all copies in this QEMU that no guest can be on: `stop`, for example, waits for every one of them. */
  | 'YANK_COPIES';

/** These rows do not wait for a look at QEMU. */
const URGENT_ROWS: Written<Urgent, UrgentMove> = {
  'guest held, or QEMU silent, for 6 seconds | may wait for a network destination | closes the connections of all copies of this VM (`yank`). It keeps the connection of a copy that the guest may be on. The copies without a connection fail, and the guest continues':
    ({ asked }) => asked.has('waitsFarTooLong') && 'YANK_COPIES',
  'concluded, and its clean-up given up | has a network destination that may hang, and the guest is not on it | closes the connection (`yank`), because closing the node would also wait for the server':
    ({ job, asked }) => job.giveUpRequested && mayBeBroken(job) && !asked.has('yank') && 'YANK',
  'to be ended by force | has a network destination that may hang | closes the connection (`yank`), even if the job waits for something else':
    ({ job, asked }) => job.concluded === undefined && isYanked(job) && !asked.has('yank') && 'YANK',
  'a network copy that was asked to end | does not end the job, although all data is copied | closes the connection after 6 seconds (`yank`), because the guest’s disk waits for the end':
    ({ job, asked }) =>
      job.concluded === undefined && isOverNetwork(job) && asked.has('endsTooLong') && !asked.has('yank') && 'YANK',
};

export const URGENT = inOrder(URGENT_ROWS);

export function urgentMove(job: Job, asked: Asked): UrgentMove | undefined {
  return firstOf(URGENT, { job, asked })?.move;
}

/**
 * Whether its connection may be broken without harm, because no guest can be on its destination. After a pivot request
 * a guest may be there at any moment, until it is known which image the disk is on.
 */
export function mayBeBroken(job: Job): boolean {
  if (!isOverNetwork(job) || hasEnded(job)) return false;
  return job.concluded === undefined ? !job.pivotRequested : job.concluded.deviceOn === 'SOURCE';
}

export function yankOf(job: string): QmpCommand {
  const instances = [{ type: 'block-node', 'node-name': namesOf(job).file }] as const;
  return { execute: 'yank', arguments: { instances } };
}
