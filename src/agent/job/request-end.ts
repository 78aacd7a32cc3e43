/** Abort: writes down what the caller wants, if the job's state allows it. The job itself sees to the rest. */

import { BlockJobError, fail, failure } from '../../core/errors.ts';
import { hasEnded, type Job } from '../../core/job/job.ts';
import type { RequestMark } from '../../core/job/journal-entry.ts';
import type { AbortRequest } from '../../core/requests.ts';
import { given } from '../../core/rules/rule.ts';
import type { JobLog } from '../journal/job-log.ts';

/** Its end is known already. What is left to be done for it in QEMU is waited for no longer, should that stay silent. */
async function giveUp(log: JobLog, mark: RequestMark | undefined): Promise<void> {
  if (log.job.giveUpRequested) await log.noteAgain(mark);
  else await log.offer({ entry: 'give-up-requested' }, { request: mark, otherwise: () => undefined });
}

/** What a caller gets who asked for something else than this ending. */
export function endedAs(job: Job): BlockJobError {
  const { accepted, state } = job;
  return new BlockJobError(job.failure ?? failure('JOB_ENDED', { job: accepted.job, state }));
}

/** Asked for again, it is under way already, and that is no error. Who asks may leave: it is written down all the same. */
export async function requestEnd(
  log: JobLog,
  { pivot, force, pauseGuest }: AbortRequest,
  mark: RequestMark | undefined,
): Promise<void> {
  // A start may wait for storage for long; what has not begun can be taken back at any time.
  if (pivot) await log.started();
  const paused = given(pauseGuest);
  const entry = pivot
    ? ({ entry: 'pivot-requested', pauseGuest: paused ?? 'AUTO' } as const)
    : ({ entry: 'cancel-requested', force, ...(paused === undefined ? {} : { pauseGuest: paused }) } as const);
  // Of several requests at once each is judged by what the one before it has made of the job.
  for (;;) {
    const { accepted, state, intent } = log.job;
    const isAsSeen = (job: Job) => job.state === state && job.intent === intent;
    const at = { job: accepted.job, state };
    if (log.ended) fail('JOB_ENDED', at);
    if (force && log.job.concluded !== undefined) {
      await giveUp(log, mark);
      return;
    }
    if (pivot && accepted.destination === undefined) {
      fail('PIVOT_UNSUPPORTED', { job: accepted.job, kind: accepted.kind });
    }
    if (intent?.entry === entry.entry && !(entry.entry === 'cancel-requested' && entry.force)) {
      await log.noteAgain(mark);
      return;
    }
    // A pivot under way is broken off only by force: it may succeed at any moment, and that is what was asked for.
    if (!pivot && !force && state === 'PIVOTING') fail('JOB_ENDING', at);
    if (pivot && state === 'CANCELLING') fail('JOB_ENDING', at);
    const written = await log.offer(entry, { request: mark, still: isAsSeen, otherwise: () => undefined });
    if (written !== undefined) return;
    if (isAsSeen(log.job)) break;
  }

  // It was asked for too late or too early; which, the state tells that was found instead.
  const now = { job: log.job.accepted.job, state: log.job.state };
  if (hasEnded(log.job)) fail('JOB_ENDED', now);
  fail(pivot && log.job.concluded === undefined ? 'JOB_NOT_READY' : 'JOB_ENDING', now);
}
