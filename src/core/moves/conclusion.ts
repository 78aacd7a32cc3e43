/** Whether QEMU has done with a job, and how. */
import type { Job } from '../job/job.ts';
import type { Concluded } from '../job/journal-entry.ts';
import type { Seen } from './moves.ts';

/** Undefined: it has not. */
export function conclusion(job: Job, seen: Seen): Concluded | undefined {
  if (seen.qemu === 'SILENT') return undefined;
  const header = headerOf(job, seen);
  if (seen.qemu === 'ENDED') return { ...unseen('QEMU_ENDED'), ...header };
  const { devicePath } = seen;
  // Whether it left before or after, and what it took along, nobody knows: it may be on the old images.
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

/** With nobody left who could say where the guest's device is. */
export function unseen(how: 'QEMU_ENDED' | 'GIVEN_UP'): Concluded {
  return { entry: 'concluded', how, qemuError: undefined, deviceOn: 'NOWHERE', devicePath: undefined };
}

/**
 * Read while another QEMU may have written to the image already, a copy or a commit is of no moment of the disk. What
 * QEMU calls a success is none then, and is taken for a result that nobody saw.
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
