/** Whether QEMU has concluded a job, and how. */
import type { Job } from '../job/job.ts';
import type { Concluded } from '../job/journal-entry.ts';
import type { Seen } from './moves.ts';

/** Undefined if it has not. */
export function conclusion(job: Job, seen: Seen): Concluded | undefined {
  if (seen.qemu === 'SILENT') return undefined;
  const header = headerOf(job, seen);
  if (seen.qemu === 'ENDED') return { ...unseen('QEMU_ENDED'), ...header };
  const { devicePath } = seen;
  // The guest may have left before or after the pivot: it may be on the old images.
  const isLost = seen.guestMigrates && seen.deviceOn === 'DESTINATION';
  const where = isLost
    ? ({ deviceOn: 'ELSEWHERE', devicePath: undefined } as const)
    : { deviceOn: seen.deviceOn, devicePath };
  if (seen.job === undefined || seen.job.status === 'null') {
    return { entry: 'concluded', how: 'VANISHED', qemuError: undefined, ...where, ...header };
  }
  if (seen.job.status === 'concluded') {
    const { error } = seen.job;
    const how = isOfNoMoment(job, seen) ? 'VANISHED' : 'CONCLUDED';
    return { entry: 'concluded', how, qemuError: error, ...where, ...(error === undefined ? header : {}) };
  }
  return undefined;
}

/** The conclusion if nobody is left who could say which image the guest's device is on. */
export function unseen(how: 'QEMU_ENDED' | 'GIVEN_UP'): Concluded {
  return { entry: 'concluded', how, qemuError: undefined, deviceOn: 'NOWHERE', devicePath: undefined };
}

/**
 * Whether another QEMU may have written to the image already. Then a copy or a commit does not match any point in time
 * of the disk, and QEMU's success counts as a result that nobody saw.
 */
export function isOfNoMoment({ accepted: { kind } }: Job, seen: Seen): boolean {
  return seen.qemu === 'UP' && seen.guestMigrates && kind !== 'PULL' && seen.job?.error === undefined;
}

function headerOf(job: Job, seen: Exclude<Seen, { qemu: 'SILENT' }>): Pick<Concluded, 'header'> {
  if (isOfNoMoment(job, seen)) return {};
  if (job.flushFailure !== undefined && seen.header?.is !== 'OLD') {
    return { header: { is: 'UNKNOWN', why: job.flushFailure.text } };
  }
  return seen.header === undefined ? {} : { header: seen.header };
}
