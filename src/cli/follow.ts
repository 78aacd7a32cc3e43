/** Follows a job as far as it was asked for, and does at READY what the contract leaves to its client. */
import { BlockJobError, hasEnded, type Job, Job_State } from '../client/index.ts';
import type { Session } from './session.ts';
import type { Display } from './show/display.ts';
import type { Goal } from './starts/start.ts';

/** A service that is upgraded, or a host that boots, is back in less. */
const PATIENCE_MS = 10 * 60_000;

export interface Following {
  readonly goal: Goal;
  /** Does not wait for the end of a cancellation. */
  readonly isAsync: boolean;
}

export interface Followed {
  readonly job: Job;
  /** `ending`: it is being cancelled, and nobody waits for that. */
  readonly how: 'ended' | 'ready' | 'ending';
  /** This command has asked for its end, because of its --timeout. */
  readonly isLate: boolean;
}

/** Throws what the watch throws: the job goes on then. */
export async function follow(
  session: Session,
  started: Job,
  { goal, isAsync }: Following,
  display: Display,
): Promise<Followed> {
  const { client } = session;
  const stop = new AbortController();
  const signal = AbortSignal.any([session.signal, stop.signal]);
  const ref = { ref: { $case: 'jobId', value: started.id } } as const;
  let isLate = false;
  let isAsked = false;
  const problem = Promise.withResolvers<never>();
  problem.promise.catch(() => undefined);
  const timer =
    goal.timeoutMs === undefined
      ? undefined
      : setTimeout(() => {
          isLate = true;
          client.abort({ job: ref, async: true }, { signal }).catch((error: unknown) => {
            // It has ended, or is about to: the watch tells how.
            if (!(error instanceof BlockJobError && error.reason.startsWith('JOB_END'))) problem.reject(error);
          });
        }, goal.timeoutMs);
  const events = client.watchJob(
    { job: ref, progressInterval: display.progressInterval },
    { signal, patienceMs: PATIENCE_MS, onRetry: (retry) => display.lost(retry) },
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
      if (hasEnded(job.state)) return { job, how: 'ended', isLate };
      if (isAsync && job.state === Job_State.STATE_CANCELLING && !isAsked) return { job, how: 'ending', isLate };
      if (job.state !== Job_State.STATE_READY || isAsked || isLate) continue;
      if (!goal.endsByItself) return { job, how: 'ready', isLate };
      if (goal.atReady !== 'nothing') {
        isAsked = true;
        await client.abort({ job: ref, pivot: goal.atReady === 'pivot', async: true }, { signal });
      }
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}
