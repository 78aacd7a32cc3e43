/** Facts that follow from a job's journal. */
import { isServed } from '../destination.ts';
import type { Job } from './job.ts';
import type { Accepted, Concluded } from './journal-entry.ts';
import type { KnownFile } from './step.ts';

/** Its data goes to another machine, or to a server process: it may hang, and QEMU with it. */
export function isOverNetwork({ accepted }: Job): boolean {
  return isServed(accepted.destination?.target);
}

/** The image that a job writes besides the active one: a copy's destination, or the base of a commit. */
export function writtenBy({ destination, kind, options }: Accepted): string | undefined {
  return destination?.path ?? (kind === 'PULL' ? undefined : options.basePath);
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

/** Whether its remaining work is done without QEMU. */
export function isWithoutQemu({ how }: Concluded): boolean {
  return how === 'QEMU_ENDED' || how === 'GIVEN_UP';
}
