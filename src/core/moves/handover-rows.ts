/**
 * A pull, or a commit of lower images, that waits in PENDING. The overlay's header may drop the old images only when
 * their data is on stable storage at its new place: QEMU alone would write the header first.
 */

import { writtenImages } from '../job/handover.ts';
import { handoverOf } from '../job/handover-of.ts';
import type { Job } from '../job/job.ts';
import type { Concluded } from '../job/journal-entry.ts';
import { isOfNoMoment } from './conclusion.ts';
import type { Move, Seen } from './moves.ts';
import type { Going, Rows } from './situation.ts';
import { meanwhile, once } from './wishes.ts';

function isMoved({ job, state, now }: Going): boolean {
  return job.accepted.destination === undefined && state === 'RUNNING' && now.status === 'pending';
}

/** Whether it may finish, as far as the guest is concerned. */
const mayFinish = (going: Going) => isMoved(going) && !going.seen.guestMigrates;

function flushData({ accepted, flushed }: Job): Move | undefined {
  const handover = flushed === undefined ? handoverOf(accepted) : undefined;
  return handover && { move: 'flush', what: 'DATA', images: [handover.data] };
}

/** A running QEMU may hold back the header and the data. Undefined if there is nothing to flush. */
export function flushHeader(job: Job, seen: Seen, { qemuError, header }: Concluded): Move | undefined {
  const handover = handoverOf(job.accepted);
  if (handover === undefined || qemuError !== undefined || header !== undefined) return undefined;
  if (seen.qemu === 'ENDED' || isOfNoMoment(job, seen)) return undefined;
  if (job.flushed === 'HEADER' || job.flushFailure !== undefined) return undefined;
  return { move: 'flush', what: 'HEADER', images: writtenImages(handover) };
}

export const HANDOVER_ROWS: Rows<Going> = {
  'RUNNING, pull or commit; its flush has failed | pending: all data is moved | cancels the job (`job-cancel`): the header does not change, and the old images stay in the chain':
    (s) =>
      mayFinish(s) &&
      s.job.flushFailure !== undefined &&
      once(s, 'forceEnd', { execute: 'job-cancel', arguments: { id: s.job.accepted.job } }),
  'RUNNING, pull or commit | pending: all data is moved | flushes the data, and records `flushed`. The guest keeps running':
    (s) => mayFinish(s) && s.job.flushFailure === undefined && flushData(s.job),
  'RUNNING, pull or commit; its data is flushed | pending: all data is moved | lets QEMU write the header (`job-finalize`)':
    (s) =>
      mayFinish(s) &&
      s.job.flushFailure === undefined &&
      once(s, 'finalize', { execute: 'job-finalize', arguments: { id: s.job.accepted.job } }),
  'RUNNING, pull or commit | pending; it was already asked to finish, or the guest migrates | waits. A limit or a pause that is requested now comes too late: the service records `change-refused`':
    (s) => isMoved(s) && meanwhile(s),
};
