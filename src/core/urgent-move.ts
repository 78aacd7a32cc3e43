/** What cannot wait for an answer of QEMU: on a network destination that hangs it gives none. */
import { hasEnded, type Job } from './job.ts';
import { isOverNetwork, isYanked } from './job-facts.ts';
import type { Asked } from './moves.ts';
import { namesOf } from './plans/names.ts';
import type { QmpCommand } from './qemu/commands.ts';

/** Whose connections are to be broken. */
export type UrgentMove =
  /** The job's own. */
  | 'YANK'
  /** Those of all copies in this QEMU on which no guest can be: `stop`, say, waits for every one of them. */
  | 'YANK_COPIES';

export function urgentMove(job: Job, asked: Asked): UrgentMove | undefined {
  if (asked.waitsFarTooLong) return 'YANK_COPIES';
  if (!isOverNetwork(job) || asked.yank) return undefined;
  // Its node is still to be closed, which waits for the server, too.
  if (job.concluded !== undefined) return job.giveUpRequested && mayBeBroken(job) ? 'YANK' : undefined;
  return isYanked(job) || asked.endsTooLong ? 'YANK' : undefined;
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
