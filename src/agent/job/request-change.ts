/** SetSpeed, Pause and Resume: writes the request down, and waits until it is done. */
import { BlockJobError, fail } from '../../core/errors.ts';
import { hasEnded, type Job } from '../../core/job/job.ts';
import type { EntryBody, RequestMark } from '../../core/job/journal-entry.ts';
import type { JobLog } from '../journal/job-log.ts';

export type Change = Extract<EntryBody, { entry: 'speed-requested' | 'pause-requested' | 'resume-requested' }>;

/**
 * A request that is already fulfilled succeeds. Its caller may leave: the request stays written down. Returns the
 * revision after which its result follows; undefined if it was fulfilled, and nothing had to be written.
 */
export async function requestChange(
  log: JobLog,
  change: Change,
  mark: RequestMark | undefined,
): Promise<number | undefined> {
  await log.started();
  const isAlready = isSo(log.job, change);
  if (isAlready && mark === undefined) return undefined;
  const entry = isAlready ? ({ entry: 'asked-again' } as const) : change;
  const job = await log.offer(entry, { request: mark, otherwise: () => refuse(log.job) });
  return job.revision;
}

/**
 * Resolves when the request was no longer open after that revision: QEMU carried it out, or another request replaced
 * it. Throws if it was given up. The answer is the same whenever it is asked for, also after the end of the job.
 */
export async function changeDone(log: JobLog, change: Change, since: number, signal: AbortSignal): Promise<void> {
  for (let revision = since; ; revision += 1) {
    await log.until((job) => job.revision >= revision, signal);
    const then = log.at(revision);
    if (then === undefined) signal.throwIfAborted();
    else if (!isWanted(then.job, change)) {
      if (then.entry.entry === 'change-refused') throw new BlockJobError(then.entry.failure);
      if (ENDS.has(then.entry.entry)) refuse(log.job);
      return;
    }
  }
}

/** These entries end the request without its result. */
const ENDS: ReadonlySet<EntryBody['entry']> = new Set([
  'pivot-requested',
  'cancel-requested',
  'finish-requested',
  'concluded',
  'ended',
]);

function isSo(job: Job, change: Change): boolean {
  if (hasEnded(job)) return false;
  switch (change.entry) {
    case 'speed-requested':
      return job.wantsBandwidth === undefined && job.bandwidthBytesPerSecond === change.bandwidthBytesPerSecond;
    case 'pause-requested':
      return job.wantsPaused === undefined && job.pauseReason === 'USER';
    case 'resume-requested':
      return job.wantsPaused === undefined && job.pauseReason === undefined;
  }
}

function isWanted(job: Job, change: Change): boolean {
  return change.entry === 'speed-requested' ? job.wantsBandwidth !== undefined : job.wantsPaused !== undefined;
}

function refuse(job: Job): never {
  const at = { job: job.accepted.job, state: job.state };
  if (hasEnded(job)) fail('JOB_ENDED', at);
  fail('JOB_ENDING', at);
}
