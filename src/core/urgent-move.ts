/** What cannot wait for an answer of QEMU: on a network destination that hangs it gives none. */
import { isOverNetwork, isYanked, type Job } from './job.ts';
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
  if (job.concluded !== undefined || !isOverNetwork(job) || asked.yank) return undefined;
  return isYanked(job) || asked.endsTooLong ? 'YANK' : undefined;
}

export function yankOf(job: string): QmpCommand {
  const instances = [{ type: 'block-node', 'node-name': namesOf(job).file }] as const;
  return { execute: 'yank', arguments: { instances } };
}
