/** What to do about a pull, or a commit of lower images, that is all but done: what decides is its header on disk. */
import { isOfNoMoment } from './conclusion.ts';
import { handoverOf, writtenImages } from './handover.ts';
import type { Job } from './job.ts';
import type { Concluded } from './journal-entry.ts';
import type { Asked, Move, Seen } from './moves.ts';

/**
 * It waits in PENDING. The image lets go of those that had the data only when that is on stable storage where it is now:
 * QEMU would write the header first.
 */
export function finalize(job: Job, asked: Asked): Move {
  const { job: id } = job.accepted;
  const handover = handoverOf(job.accepted);
  if (job.flushFailure !== undefined) {
    if (asked.forceEnd) return { move: 'wait' };
    return { move: 'command', asks: 'forceEnd', command: { execute: 'job-cancel', arguments: { id } } };
  }
  if (handover !== undefined && job.flushed === undefined) {
    return { move: 'flush', what: 'DATA', images: [handover.data] };
  }
  if (asked.finalize) return { move: 'wait' };
  return { move: 'command', asks: 'finalize', command: { execute: 'job-finalize', arguments: { id } } };
}

/** While QEMU lives it may hold back the header, and what it leads to. Undefined: there is nothing to be flushed. */
export function proveHeader(job: Job, seen: Seen, { qemuError, header }: Concluded): Move | undefined {
  const handover = handoverOf(job.accepted);
  if (handover === undefined || qemuError !== undefined || header !== undefined) return undefined;
  if (seen.qemu === 'ENDED' || isOfNoMoment(job, seen)) return undefined;
  if (job.flushed === 'HEADER' || job.flushFailure !== undefined) return undefined;
  return { move: 'flush', what: 'HEADER', images: writtenImages(handover) };
}
