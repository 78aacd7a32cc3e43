/** SetSpeed, Pause and Resume: writes down what the caller wants, and waits until it is so. */
import { fail } from '../core/errors.ts';
import { hasEnded, type Job } from '../core/job.ts';
import type { EntryBody, RequestMark } from '../core/journal-entry.ts';
import type { JobLog } from './job-log.ts';

export type Change = Extract<EntryBody, { entry: 'speed-requested' | 'pause-requested' | 'resume-requested' }>;

/** What is so already is no error. Who asks may leave: it is written down all the same. */
export async function requestChange(log: JobLog, change: Change, mark: RequestMark | undefined): Promise<void> {
  await log.started();
  if (isSo(log.job, change)) await log.noteAgain(mark);
  else if ((await log.append(change, mark)) === undefined) refuse(log.job);
}

/** Resolves when nothing of the kind is wanted any more: QEMU has taken it, or another request has replaced it. */
export async function changeDone(log: JobLog, change: Change, signal: AbortSignal): Promise<void> {
  while (isWanted(log.job, change)) {
    signal.throwIfAborted();
    await log.changed.after(log.changed.now, { signal });
    if (log.ended) refuse(log.job);
  }
}

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
