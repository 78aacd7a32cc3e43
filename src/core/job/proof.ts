/** The proof of success of a concluded job: only the state on disk counts. */
import { type ConcludedJob, SYNC_STEP } from './job.ts';

/**
 * Whether the job has done its work: the guest is on the destination. For a job without one: the header that drops the
 * old images is on disk, and the data was there before it.
 */
export function hasSucceeded({ accepted, concluded, flushed }: ConcludedJob): boolean {
  if (accepted.destination !== undefined) return concluded.deviceOn === 'DESTINATION';
  return concluded.qemuError === undefined && concluded.header?.is === 'NEW' && flushed !== undefined;
}

/** Whether the copied data is not known to be on disk. */
export function isUnsynced({ steps }: ConcludedJob): boolean {
  return steps.get(SYNC_STEP) === 'REFUSED';
}
