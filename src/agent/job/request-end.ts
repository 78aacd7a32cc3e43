/** Abort: writes the request down if the job's state allows it. The job itself does the rest. */

import { BlockJobError, fail, failure } from '../../core/errors.ts';
import { hasEnded, type Job } from '../../core/job/job.ts';
import type { RequestMark } from '../../core/job/journal-entry.ts';
import { refusedPivot } from '../../core/job/pivot-gate.ts';
import type { AbortRequest } from '../../core/requests.ts';
import { given } from '../../core/rules/rule.ts';
import type { JobLog } from '../journal/job-log.ts';
import { openGate } from './open-gate.ts';

/** Its end is already known. Its clean-up in QEMU is no longer waited for, should QEMU stay silent. */
async function giveUp(log: JobLog, mark: RequestMark | undefined): Promise<void> {
  if (log.job.giveUpRequested) await log.noteAgain(mark);
  else await log.offer({ entry: 'give-up-requested' }, { request: mark, otherwise: () => undefined });
}

/** The error for a caller that asked for another end. */
export function endedAs(job: Job): BlockJobError {
  const { accepted, state } = job;
  return new BlockJobError(job.failure ?? failure('JOB_ENDED', { job: accepted.job, state }));
}

/** A repeated request succeeds if the first one is in progress. Its caller may leave: the request stays written down. */
export async function requestEnd(
  log: JobLog,
  { pivot, force, pauseGuest, record, recordOnly = false }: AbortRequest,
  mark: RequestMark | undefined,
): Promise<void> {
  // A start may wait long for storage; steps that have not begun can be undone at any time.
  if (pivot) await log.started();
  const paused = given(pauseGuest);
  const cancel = { entry: 'cancel-requested', force, ...(paused === undefined ? {} : { pauseGuest: paused }) } as const;
  const token = record && { token: record.token };
  const recorded = recordOnly && token !== undefined ? ({ entry: 'config-recorded', ...token } as const) : undefined;
  const wanted = recorded ?? ({ entry: 'pivot-requested', pauseGuest: paused ?? 'AUTO', ...token } as const);
  const entry = pivot ? wanted : cancel;
  // Concurrent requests are judged one after the other, each by the state that the one before it has left.
  for (;;) {
    const { accepted, state, intent, gate } = log.job;
    const isAsSeen = (job: Job) => job.state === state && job.intent === intent && job.gate === gate;
    const at = { job: accepted.job, state };
    if (log.ended) fail('JOB_ENDED', at);
    if (force && log.job.concluded !== undefined) {
      await giveUp(log, mark);
      return;
    }
    if (pivot && accepted.destination === undefined) {
      fail('PIVOT_UNSUPPORTED', { job: accepted.job, kind: accepted.kind });
    }
    const isDecided = log.job.concluded !== undefined && record === undefined;
    if (pivot && !isDecided && (state === 'READY' || state === 'PIVOTING')) {
      await openGate(log);
      if (!isAsSeen(log.job)) continue;
      const refusal = refusedPivot(log.job, record?.token);
      if (refusal !== undefined) throw new BlockJobError(refusal);
      if (recordOnly && log.job.gate?.recordTime !== undefined) return await log.noteAgain(mark);
    }
    if (intent?.entry === entry.entry && !(entry.entry === 'cancel-requested' && entry.force)) {
      await log.noteAgain(mark);
      return;
    }
    // Only force cancels a pivot in progress: it may succeed at any moment, as was requested.
    if (!pivot && !force && state === 'PIVOTING') fail('JOB_ENDING', at);
    if (pivot && state === 'CANCELLING') fail('JOB_ENDING', at);
    const written = await log.offer(entry, { request: mark, still: isAsSeen, otherwise: () => undefined });
    if (written !== undefined) return;
    if (isAsSeen(log.job)) break;
  }

  // The request came too late or too early, as the present state says.
  const now = { job: log.job.accepted.job, state: log.job.state };
  if (hasEnded(log.job)) fail('JOB_ENDED', now);
  fail(pivot && log.job.concluded === undefined ? 'JOB_NOT_READY' : 'JOB_ENDING', now);
}
