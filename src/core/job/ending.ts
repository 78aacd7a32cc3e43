/** How a concluded job ended, by the request for its end and by the proof. */
import { errnoIn, isNoRoom, isOfStorage, LOOK } from '../errno.ts';
import { type Failure, failure } from '../errors.ts';
import { handoverOf } from './handover-of.ts';
import type { ConcludedJob, Job } from './job.ts';
import { hasSucceeded, imageWritten, isUnsynced, isYanked } from './job-facts.ts';
import type { Accepted } from './journal-entry.ts';

export interface Ending {
  readonly state: 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED';
  readonly failure: Failure | undefined;
}

const GIVEN_UP = 'its QEMU did not answer, and the job was given up';

/** The operation that failed when QEMU gave a job up. */
export type FailedTo = 'read' | 'write';

/** Success is never concluded from the absence of the job, or from the position of the device, alone. */
export function ending(job: ConcludedJob, failedTo?: FailedTo): Ending {
  const { concluded } = job;
  const { job: id, destination } = job.accepted;
  const { how, qemuError } = concluded;
  const lost = (why: string) => failure('JOB_LOST', { job: id, why });
  const cancelled = job.intent?.entry === 'cancel-requested' ? cancelledAs(job, job.intent) : undefined;

  if (destination === undefined) return endingByItself(job, cancelled, failedTo);
  if (isUnsynced(job)) {
    return { state: 'UNRESOLVED', failure: unsynced(job, destination.path) };
  }
  if (concluded.deviceOn === 'DESTINATION') {
    if (qemuError === undefined) return { state: 'COMPLETED', failure: undefined };
    return { state: 'UNRESOLVED', failure: failureOf(job, qemuError, failedTo) };
  }
  if (how === 'QEMU_ENDED') {
    // During a pivot, nothing on disk shows which side the guest wrote to last.
    return { state: job.pivotRequested ? 'UNRESOLVED' : 'FAILED', failure: lost('the QEMU process has ended') };
  }
  if (how === 'GIVEN_UP') return { state: 'UNRESOLVED', failure: lost(GIVEN_UP) };
  if (concluded.deviceOn === 'NOWHERE') {
    // If it pivoted before that, the guest's last writes are on the destination.
    const mayHavePivoted = job.pivotRequested && qemuError === undefined;
    return { state: mayHavePivoted ? 'UNRESOLVED' : 'FAILED', failure: lost('the disk was unplugged') };
  }
  if (concluded.deviceOn === 'ELSEWHERE') {
    return { state: 'UNRESOLVED', failure: lost('the disk is on another image') };
  }
  if (how === 'VANISHED') {
    const why = lost('another client dismissed it');
    // A pivot was requested, and nobody saw its result: it may have been made, and more since.
    if (job.pivotRequested) return { state: 'UNRESOLVED', failure: why };
    return { state: cancelled?.state ?? 'FAILED', failure: why };
  }
  if (qemuError === undefined) {
    if (job.intent?.entry === 'finish-requested') return { state: 'COMPLETED', failure: undefined };
    return cancelled ?? { state: 'CANCELLED', failure: lost('another client ended it without a pivot') };
  }
  if (qemuError === 'Operation canceled') {
    return cancelled ?? { state: 'CANCELLED', failure: lost('another client cancelled it') };
  }
  if (isYanked(job)) return { state: 'CANCELLED', failure: undefined };
  // QEMU's error at that time does not explain the reason.
  if (cancelled?.state === 'FAILED') return cancelled;
  return { state: 'FAILED', failure: failureOf(job, qemuError, failedTo) };
}

/** A pull, or a commit of lower images, is done only if the header on disk says so. */
function endingByItself(job: ConcludedJob, cancelled: Ending | undefined, failedTo: FailedTo | undefined): Ending {
  const { job: id, kind, source } = job.accepted;
  const { how, qemuError, header } = job.concluded;
  const lost = (why: string) => failure('JOB_LOST', { job: id, why });
  // This service cancelled the job because the flush failed, whatever QEMU calls its end.
  const broken: Ending | undefined =
    job.flushFailure === undefined ? cancelled : { state: 'FAILED', failure: job.flushFailure };
  if (qemuError === 'Operation canceled') {
    return broken ?? { state: 'CANCELLED', failure: lost('another client cancelled it') };
  }
  if (qemuError !== undefined) return { state: 'FAILED', failure: failureOf(job, qemuError, failedTo) };
  if (hasSucceeded(job)) return { state: 'COMPLETED', failure: undefined };
  const path = handoverOf(job.accepted)?.overlay.path ?? source.path;
  if (how === 'CONCLUDED') {
    const why = {
      NEW: 'its data was not flushed',
      OLD: 'its header, read back, still names another image',
      UNKNOWN: header?.is === 'UNKNOWN' ? header.why : '',
      NONE: 'its header was not read back',
    }[header?.is ?? 'NONE'];
    return { state: 'UNRESOLVED', failure: failure('NOT_ON_DISK', { job: id, path, why }) };
  }
  const gone = {
    QEMU_ENDED: 'the QEMU process has ended',
    GIVEN_UP,
    VANISHED: kind === 'PULL' ? 'it is gone' : 'another client dismissed it',
  }[how];
  if (header?.is === 'OLD') return broken ?? { state: 'FAILED', failure: lost(`${gone}, and the chain is as it was`) };
  return { state: 'UNRESOLVED', failure: lost(gone) };
}

function unsynced({ accepted, syncFailure }: Job, path: string): Failure {
  if (syncFailure?.reason === 'DESTINATION_MOVED') return syncFailure;
  const why = 'the sync after QEMU had written it failed';
  return failure('NOT_ON_DISK', { job: accepted.job, path, why });
}

function cancelledAs(
  { accepted }: Job,
  intent: Extract<Job['intent'], { readonly entry: 'cancel-requested' }>,
): Ending {
  const path = accepted.destination?.path ?? '';
  if (intent.connectionBroken) {
    const why = 'the guest was waiting for storage that hangs, so the connections of its copies were broken';
    return { state: 'FAILED', failure: failure('DESTINATION_UNREACHABLE', { path, why }) };
  }
  if (intent.destinationMoved) {
    return { state: 'FAILED', failure: failure('DESTINATION_MOVED', { path }) };
  }
  if (intent.timeIsUp === undefined) return { state: 'CANCELLED', failure: undefined };
  return { state: 'CANCELLED', failure: timeIsUp(accepted) };
}

export function timeIsUp({ job, options }: Pick<Accepted, 'job' | 'options'>): Failure {
  return failure('TIME_LIMIT_REACHED', { job, timeLimit: (options.timeLimitMs ?? 0) / 1000 });
}

function failureOf({ accepted }: Job, qemuText: string, failedTo: FailedTo | undefined): Failure {
  const { doing, path } = whatFailed(accepted, failedTo);
  const at = path === undefined ? {} : { path };
  const written = imageWritten(accepted);
  if (isNoRoom(qemuText)) return failure('NO_SPACE', { path: written, why: qemuText }, { qemuText });
  const errno = errnoIn(qemuText);
  if (errno === 'EFBIG') return failure('FILE_TOO_LARGE', { path: written, why: qemuText }, { qemuText });
  if (errno !== undefined && isOfStorage(errno)) {
    return failure('STORAGE_FAILED', { doing, why: qemuText, wayOut: LOOK }, { ...at, qemuText });
  }
  return failure('REFUSED_BY_QEMU', { domain: accepted.domain, doing, qemuText }, at);
}

const DOING = { COPY: 'copying', PULL: 'pulling', COMMIT: 'committing', ACTIVE_COMMIT: 'committing' };

/** The image at which a job failed, if it is known: `Input/output error` alone does not say where to look. */
export function whatFailed(
  accepted: Accepted,
  failedTo: FailedTo | undefined,
): { readonly doing: string; readonly path: string | undefined } {
  const { kind, source, options } = accepted;
  // A stream reports all of its errors as read errors.
  if (failedTo === undefined || kind === 'PULL') return { doing: DOING[kind], path: undefined };
  if (failedTo === 'write') {
    const path = imageWritten(accepted);
    return { doing: `${DOING[kind]}: writing ${path}`, path };
  }
  const path = kind === 'COMMIT' ? options.topPath : source.path;
  return { doing: `${DOING[kind]}: reading ${path}, or an image below it`, path };
}
