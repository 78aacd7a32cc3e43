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
  const { job: id, kind, destination } = job.accepted;
  const { how, qemuError } = concluded;
  const lost = (why: string) => failure('JOB_LOST', { job: id, why });
  const cancelled = job.intent?.entry === 'cancel-requested' ? cancelledAs(job, job.intent) : undefined;

  if (concluded.deviceOn === 'DESTINATION') {
    if (qemuError === undefined) return { state: 'COMPLETED', failure: undefined };
    return { state: 'UNRESOLVED', failure: failureOf(job, qemuError) };
  }
  if (how === 'QEMU_ENDED') {
    // With a pivot under way, nothing on disk tells which side the guest wrote to last; and a job that ends by itself
    // may have done so a moment before.
    const mayHaveSucceeded = job.pivotRequested || destination === undefined;
    return { state: mayHaveSucceeded ? 'UNRESOLVED' : 'FAILED', failure: lost('the QEMU process has ended') };
  }
  if (how === 'VANISHED' && kind === 'PULL') {
    if (cancelled !== undefined) return cancelled;
    return concluded.deviceOn === 'SOURCE'
      ? { state: 'FAILED', failure: lost('it is gone, and the chain is as it was') }
      : { state: 'UNRESOLVED', failure: lost('it is gone, and the disk is not on its image') };
  }
  if (how === 'VANISHED' && destination === undefined) {
    return cancelled ?? { state: 'UNRESOLVED', failure: lost('another client dismissed it') };
  }
  if (destination !== undefined && concluded.deviceOn === 'NOWHERE') {
    // Pivoted before that, it had the guest's last writes on the destination.
    const mayHavePivoted = job.pivotRequested && qemuError === undefined;
    return { state: mayHavePivoted ? 'UNRESOLVED' : 'FAILED', failure: lost('the disk was unplugged') };
  }
  if (destination !== undefined && concluded.deviceOn === 'ELSEWHERE') {
    return { state: 'UNRESOLVED', failure: lost('the disk is on another image') };
  }
  if (how === 'VANISHED') {
    const why = lost('another client dismissed it');
    return { state: cancelled === undefined ? 'FAILED' : 'CANCELLED', failure: why };
  }
  if (qemuError === undefined) {
    if (destination === undefined || job.intent?.entry === 'finish-requested') {
      return { state: 'COMPLETED', failure: undefined };
    }
    return cancelled ?? { state: 'CANCELLED', failure: lost('another client ended it without a pivot') };
  }
  if (qemuError === 'Operation canceled') {
    return cancelled ?? { state: 'CANCELLED', failure: lost('another client cancelled it') };
  }
  return { state: 'FAILED', failure: failureOf(job, qemuError) };
}

function cancelledAs({ accepted }: Job, { timeIsUp }: { readonly timeIsUp?: true }): Ending {
  if (timeIsUp === undefined) return { state: 'CANCELLED', failure: undefined };
  const timeLimit = `${(accepted.options.timeLimitMs ?? 0) / 1000} seconds`;
  return { state: 'CANCELLED', failure: failure('TIME_LIMIT_REACHED', { job: accepted.job, timeLimit }) };
}

const DOING = { COPY: 'copying', PULL: 'pulling', COMMIT: 'committing', ACTIVE_COMMIT: 'committing' };

function failureOf({ accepted }: Job, qemuText: string): Failure {
  const { destination, source, options, kind } = accepted;
  // Whichever image the job writes.
  const path = destination?.path ?? (kind === 'PULL' ? source.path : options.basePath);
  if (/no space left/i.test(qemuText)) return failure('NO_SPACE', { path, why: qemuText });
  return failure('QEMU_REFUSED', { doing: DOING[kind], qemuText });
}
