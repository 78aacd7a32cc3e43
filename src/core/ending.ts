/** How a job that has concluded has ended: by what was asked for, and by what is proved. */
import { type Failure, failure } from './errors.ts';
import type { Job } from './job.ts';
import type { Concluded } from './journal-entry.ts';

export interface Ending {
  readonly state: 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED';
  readonly failure: Failure | undefined;
}

/** That the job is gone, or that the device is where it was wanted, is never a success by itself. */
export function ending(job: Job, concluded: Concluded): Ending {
  const id = job.accepted.job;
  const { qemuError } = concluded;
  const lost = (why: string) => failure('JOB_LOST', { job: id, why });
  const askedToCancel = job.intent?.entry === 'cancel-requested';

  if (concluded.deviceOn === 'DESTINATION') {
    if (qemuError === undefined) return { state: 'COMPLETED', failure: undefined };
    return { state: 'UNRESOLVED', failure: failureOf(job, qemuError) };
  }
  if (concluded.how === 'QEMU_ENDED') {
    // With a pivot under way, nothing on disk tells which side the guest wrote to last.
    const state = job.pivotRequested ? 'UNRESOLVED' : 'FAILED';
    return { state, failure: lost('the QEMU process has ended') };
  }
  if (concluded.deviceOn === 'NOWHERE') return { state: 'FAILED', failure: lost('the disk was unplugged') };
  if (concluded.deviceOn === 'ELSEWHERE') {
    return { state: 'UNRESOLVED', failure: lost('the disk is on another image') };
  }
  if (concluded.how === 'VANISHED') {
    return { state: askedToCancel ? 'CANCELLED' : 'FAILED', failure: lost('another client dismissed it') };
  }
  if (qemuError === undefined) {
    if (job.intent?.entry === 'finish-requested') return { state: 'COMPLETED', failure: undefined };
    const why = askedToCancel ? undefined : lost('another client ended it without a pivot');
    return { state: 'CANCELLED', failure: why };
  }
  if (qemuError === 'Operation canceled') {
    return { state: 'CANCELLED', failure: askedToCancel ? undefined : lost('another client cancelled it') };
  }
  return { state: 'FAILED', failure: failureOf(job, qemuError) };
}

function failureOf(job: Job, qemuText: string): Failure {
  if (/no space left/i.test(qemuText)) {
    return failure('NO_SPACE', { path: job.accepted.destination.path, why: qemuText });
  }
  return failure('QEMU_REFUSED', { doing: 'copying', qemuText });
}
