/** What cannot wait for an answer of QEMU: on a network destination that hangs it gives none. */
import { isYanked, type Job } from './job.ts';
import type { Asked, Move } from './moves.ts';
import { namesOf } from './plans/names.ts';

export function urgentMove(job: Job, asked: Asked): Move | undefined {
  const { accepted } = job;
  if (!isYanked(job) || asked.yank || job.concluded !== undefined) return undefined;
  const instances = [{ type: 'block-node', 'node-name': namesOf(accepted.job).file }] as const;
  return { move: 'yank', command: { execute: 'yank', arguments: { instances } } };
}
