/** Follows a job up to its goal, and does at READY what the contract leaves to the client. */
import { BlockJobError, hasEnded, type Job, Job_State } from '../client/index.ts';
import { Timer } from '../lib/timer.ts';
import type { CliRun } from './run.ts';
import type { Display } from './show/displays.ts';
import { gateInWords, needsRecord } from './show/job.ts';
import type { Goal } from './starts/start.ts';

/** A service that is upgraded, or a host that boots, is back earlier. */
const HOST_IS_BACK_MS = 10 * 60_000;

export interface Following {
  readonly goal: Goal;
  /** Does not wait for the end of a cancelled job. */
  readonly isAsync: boolean;
}

export interface Followed {
  readonly job: Job;
  /** `ending`: it is being cancelled, and this command does not wait for that. */
  readonly how: 'ended' | 'ready' | 'ending';
  /** This command has requested its end, because of its --timeout. */
  readonly isLate: boolean;
  /** This command has requested the action that its goal has at READY. */
  readonly isAsked: boolean;
}

/** Throws the error of the watch: the job continues then. */
export async function followJob(
  session: CliRun,
  started: Job,
  { goal, isAsync }: Following,
  display: Display,
): Promise<Followed> {
  const { client } = session;
  const stop = new AbortController();
  const signal = AbortSignal.any([session.signal, stop.signal]);
  const ref = { name: { $case: 'jobId', value: started.id } } as const;
  let isLate = false;
  let isAsked = false;
  let isTold = false;
  const followed = (job: Job, how: Followed['how']): Followed => ({ job, how, isLate, isAsked });
  // Waits for the service as the watch does. The watch reports the end of the job if the request comes too late.
  const ask = async (pivot: boolean) => {
    try {
      await client.abort({ job: ref, pivot, returnImmediately: true }, { signal, patienceMs: HOST_IS_BACK_MS });
    } catch (error) {
      if (!(error instanceof BlockJobError && error.reason.startsWith('JOB_END'))) throw error;
    }
  };
  const problem = Promise.withResolvers<never>();
  problem.promise.catch(() => undefined);
  using _timer =
    goal.timeoutMs === undefined
      ? undefined
      : new Timer(() => {
          isLate = true;
          ask(false).catch(problem.reject);
        }, goal.timeoutMs);
  const events = client.watchJob(
    { job: ref, progressInterval: display.progressInterval },
    { signal, patienceMs: HOST_IS_BACK_MS, onRetry: (retry) => display.lost(retry) },
  );
  try {
    for (;;) {
      const coming = events.next();
      coming.catch(() => undefined);
      const next = await Promise.race([coming, problem.promise]);
      if (next.done === true) throw new Error(`the watch of ${started.id} ended before the job`);
      const { job } = next.value;
      if (job === undefined) continue;
      display.show(next.value, job);
      if (hasEnded(job.state)) return followed(job, 'ended');
      if (isAsync && job.state === Job_State.STATE_CANCELLING && !isAsked) return followed(job, 'ending');
      if (job.state !== Job_State.STATE_READY || isAsked || isLate) continue;
      const waitsForRecord = needsRecord(job) && goal.atReady !== 'end';
      // The gate opens at once.
      if (waitsForRecord && job.pivotGate === undefined) continue;
      if (!goal.endsByItself) return followed(job, 'ready');
      if (waitsForRecord) {
        if (!isTold) for (const line of gateInWords(job)) session.note(line.trim());
        isTold = true;
        continue;
      }
      if (goal.atReady !== 'nothing') {
        isAsked = true;
        await ask(goal.atReady === 'pivot');
      }
    }
  } finally {
    stop.abort();
  }
}
