/** What is proved of a job that has concluded: success is what is on disk, and nothing else. */
import { type ConcludedJob, SYNC_STEP } from './job.ts';

/**
 * What was to be done is done: the guest is on the destination; or, of a job without one, the header that lets go of
 * the old images is on disk, and what it leads to was there before.
 */
export function hasSucceeded({ accepted, concluded, flushed }: ConcludedJob): boolean {
  if (accepted.destination !== undefined) return concluded.deviceOn === 'DESTINATION';
  return concluded.qemuError === undefined && concluded.header?.is === 'NEW' && flushed !== undefined;
}

/** What was copied is not known to be on disk. */
export function isUnsynced({ steps }: ConcludedJob): boolean {
  return steps.get(SYNC_STEP) === 'REFUSED';
}
