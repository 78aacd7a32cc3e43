/** SetSpeed, Pause and Resume: writes down what the caller wants, and waits until it is so. */
import { BlockJobError, fail } from '../../core/errors.ts';
import { hasEnded, type Job } from '../../core/job/job.ts';
import type { EntryBody, RequestMark } from '../../core/job/journal-entry.ts';
import type { JobLog } from '../journal/job-log.ts';

export type Change = Extract<EntryBody, { entry: 'speed-requested' | 'pause-requested' | 'resume-requested' }>;

/**
 * What is so already is no error. Who asks may leave: it is written down all the same. Returns from which revision on
 * is told what becomes of it; undefined: it is so already, and there was no need to write that down.
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
 * Resolves when nothing of the kind was wanted any more after that revision: QEMU took it, or another request replaced
 * it. Throws when it was given up. So the answer is the same whenever it is asked for, after the end of the job, too.
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

/** With these nothing is wanted any more, and it has not been done. */
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
