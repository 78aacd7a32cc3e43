/** Facts that follow from a job's journal. */
import { isServed } from '../destination.ts';
import type { ConcludedJob, Job } from './job.ts';
import type { Accepted, Concluded } from './journal-entry.ts';
import type { KnownFile } from './step.ts';
import { SYNC_STEP } from './steps.ts';

/** Its data goes to another machine, or to a server process: it may hang, and QEMU with it. */
export function isOverNetwork({ accepted }: Job): boolean {
  return isServed(accepted.destination?.target);
}

/** Whether QEMU has it, as far as is written: its start is over, and its end is not known. */
export function isInQemu({ state, concluded }: Pick<Job, 'state' | 'concluded'>): boolean {
  return state !== 'STARTING' && concluded === undefined;
}

/** The image that a job writes besides the active one: a copy's destination, or the base of a commit. */
export function writtenBy({ destination, kind, options }: Accepted): string | undefined {
  return destination?.path ?? (kind === 'PULL' ? undefined : options.basePath);
}

/** The image that a job writes, which may be the active one. */
export function imageWritten(accepted: Accepted): string {
  return writtenBy(accepted) ?? accepted.source.path;
}

/** The files by whose names the disk, or the copy, is opened after the job. */
export function filesToFind(job: Pick<Job, 'accepted' | 'destinationFile'>): readonly KnownFile[] {
  return [job.destinationFile ?? [], job.accepted.named ?? []].flat();
}

/** Whether it was cancelled by force, with its connection to a network destination: QEMU reports an I/O error then. */
export function isYanked(job: Job): boolean {
  return isForced(job) && isOverNetwork(job);
}

/** Whether a caller, and not the service itself, cancelled it by force. */
export function isForced({ intent }: Job): boolean {
  if (intent?.entry !== 'cancel-requested' || !intent.force) return false;
  const { timeIsUp, connectionBroken, destinationMoved } = intent;
  return timeIsUp === undefined && connectionBroken === undefined && destinationMoved === undefined;
}

/** Whether its time limit counts now: with HOLD for reaching READY, otherwise for the end. */
export function isTimeBound({ state, accepted }: Pick<Job, 'state' | 'accepted'>): boolean {
  const isForEnd = accepted.options.onReady !== 'HOLD';
  return state === 'RUNNING' || (isForEnd && (state === 'READY' || state === 'PIVOTING'));
}

/** Whether its remaining work is done without QEMU. */
export function isWithoutQemu({ how }: Concluded): boolean {
  return how === 'QEMU_ENDED' || how === 'GIVEN_UP';
}

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
