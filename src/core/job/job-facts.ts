/** What follows from what a job's journal says. */
import { isServed } from '../destination.ts';
import type { Job } from './job.ts';
import type { Accepted, Concluded } from './journal-entry.ts';
import type { KnownFile } from './step.ts';

/** What it writes is on another machine, or on a server of its own: it may hang, and take QEMU along. */
export function isOverNetwork({ accepted }: Job): boolean {
  return isServed(accepted.destination?.target);
}

/** What a job writes beside the active image: a copy's destination, or the base of a commit. */
export function writtenBy({ destination, kind, options }: Accepted): string | undefined {
  return destination?.path ?? (kind === 'PULL' ? undefined : options.basePath);
}

/** The files by whose names the disk, or the copy, is opened when the job is done. */
export function filesToFind(job: Pick<Job, 'accepted' | 'destinationFile'>): readonly KnownFile[] {
  return [job.destinationFile ?? [], job.accepted.named ?? []].flat();
}

/** Broken off by force, and with it the connection to a network destination: QEMU takes that for an I/O error. */
export function isYanked(job: Job): boolean {
  return isForced(job) && isOverNetwork(job);
}

/** Somebody, and not the service itself, wants it broken off whatever that costs. */
export function isForced({ intent }: Job): boolean {
  if (intent?.entry !== 'cancel-requested' || !intent.force) return false;
  const { timeIsUp, connectionBroken, destinationMoved } = intent;
  return timeIsUp === undefined && connectionBroken === undefined && destinationMoved === undefined;
}

/** What is left to be done for it is done without QEMU. */
export function isWithoutQemu({ how }: Concluded): boolean {
  return how === 'QEMU_ENDED' || how === 'GIVEN_UP';
}
