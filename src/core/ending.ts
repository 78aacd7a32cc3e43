/** How a job that has concluded has ended: by what was asked for, and by what is proved. */
import { type Failure, failure } from './errors.ts';
import { isYanked, type Job } from './job.ts';
import type { Accepted, Concluded } from './journal-entry.ts';

export interface Ending {
  readonly state: 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED';
  readonly failure: Failure | undefined;
}

/** What QEMU could not do any more when it gave a job up. */
export type FailedTo = 'read' | 'write';

/** That the job is gone, or that the device is where it was wanted, is never a success by itself. */
export function ending(job: Job, concluded: Concluded, failedTo?: FailedTo): Ending {
  const { job: id, kind, destination } = job.accepted;
  const { how, qemuError } = concluded;
  const lost = (why: string) => failure('JOB_LOST', { job: id, why });
  const cancelled = job.intent?.entry === 'cancel-requested' ? cancelledAs(job, job.intent) : undefined;

  if (concluded.deviceOn === 'DESTINATION') {
    if (qemuError === undefined) return { state: 'COMPLETED', failure: undefined };
    return { state: 'UNRESOLVED', failure: failureOf(job, qemuError, failedTo) };
  }
  if (how === 'QEMU_ENDED') {
    // With a pivot under way, nothing on disk tells which side the guest wrote to last; and a job that ends by itself
    // may have done so a moment before.
    const mayHaveSucceeded = job.pivotRequested || destination === undefined;
    return { state: mayHaveSucceeded ? 'UNRESOLVED' : 'FAILED', failure: lost('the QEMU process has ended') };
  }
  if (how === 'GIVEN_UP') return { state: 'UNRESOLVED', failure: lost('its QEMU was silent, and it was given up') };
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
    // It was asked for, and nobody saw what came of it: it may have been done, and more since.
    if (job.pivotRequested) return { state: 'UNRESOLVED', failure: why };
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
  if (isYanked(job)) return { state: 'CANCELLED', failure: undefined };
  return { state: 'FAILED', failure: failureOf(job, qemuError, failedTo) };
}

function cancelledAs({ accepted }: Job, { timeIsUp }: { readonly timeIsUp?: true }): Ending {
  if (timeIsUp === undefined) return { state: 'CANCELLED', failure: undefined };
  const timeLimit = `${(accepted.options.timeLimitMs ?? 0) / 1000} seconds`;
  return { state: 'CANCELLED', failure: failure('TIME_LIMIT_REACHED', { job: accepted.job, timeLimit }) };
}

function failureOf({ accepted }: Job, qemuText: string, failedTo: FailedTo | undefined): Failure {
  const { doing, path } = whatFailed(accepted, failedTo);
  if (/no space left/i.test(qemuText)) return failure('NO_SPACE', { path: imageWritten(accepted), why: qemuText });
  return failure('QEMU_REFUSED', { doing, qemuText }, path === undefined ? {} : { path });
}

/** Whichever image the job writes. */
function imageWritten({ destination, source, options, kind }: Accepted): string {
  return destination?.path ?? (kind === 'PULL' ? source.path : options.basePath);
}

const DOING = { COPY: 'copying', PULL: 'pulling', COMMIT: 'committing', ACTIVE_COMMIT: 'committing' };

/** Which image a job could not go on with, where that is known: `Input/output error` alone sends nobody anywhere. */
export function whatFailed(
  accepted: Accepted,
  failedTo: FailedTo | undefined,
): { readonly doing: string; readonly path: string | undefined } {
  const { kind, source, options } = accepted;
  // A stream calls all of its errors errors of reading.
  if (failedTo === undefined || kind === 'PULL') return { doing: DOING[kind], path: undefined };
  if (failedTo === 'write') {
    const path = imageWritten(accepted);
    return { doing: `${DOING[kind]}: writing ${path}`, path };
  }
  const path = kind === 'COMMIT' ? options.topPath : source.path;
  return { doing: `${DOING[kind]}: reading ${path}, or an image below it`, path };
}
