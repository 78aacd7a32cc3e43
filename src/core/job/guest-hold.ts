/**
 * The one pause of a guest by this service, for all jobs of its VM: its holders, and whether we owe the guest a `cont`.
 *
 *           hold(job A)             hold(job B)              release(A)            release(B)
 *  FREE ─────────────────► A ─────────────────► A, B ─────────────────► B ─────────────────► FREE
 *            `stop`                 `stop`                                     `cont`, if it is owed
 *
 * Each hold sends `stop`, which stops a running guest and does not change a stopped one. The STOP event before its answer
 * shows that our `stop` was the one that stopped it. A RESUME event ends our debt: we, or another client, resumed the
 * guest. If it stops again, another client did that, unless a `stop` of ours is still to come.
 */
import { isStoppedByStop } from '../qemu/guest-state.ts';

export interface Holder {
  readonly job: string;
  readonly because: string;
  /** RFC 3339. */
  readonly since: string;
}

export interface Hold {
  readonly holders: readonly Holder[];
  /** The guest is stopped by our `stop`, or may be: a service that finds this without a holder resumes it. */
  readonly owesCont: boolean;
  /** QEMU's jobs that are paused for our `stop`, or may be: a service that finds this resumes them. */
  readonly pausedJobs: readonly string[];
}

export const FREE: Hold = { holders: [], owesCont: false, pausedJobs: [] };

export function isFree({ holders, owesCont, pausedJobs }: Hold): boolean {
  return holders.length === 0 && !owesCont && pausedJobs.length === 0;
}

/** A `stop` of ours, until QEMU certainly has nothing more to do for it. */
export interface Stop {
  /** WAITING to be sent, which may take long. SENT: QEMU has it, and it may be what stops the guest. */
  readonly is: 'BEING_WRITTEN_DOWN' | 'WAITING' | 'SENT';
  /** The guest was stopped by us before, and nobody has resumed it since. */
  readonly owed: boolean;
  /** It finds a running guest, as far as is known. */
  readonly mayStop: boolean;
  /** A running guest was stopped since it was sent. */
  readonly stopped: boolean;
}

/** Other clients stop and resume the guest meanwhile. */
export function heardBeside(stop: Stop, event: string): Stop {
  switch (event) {
    case 'STOP':
      return stop.is === 'SENT' ? { ...stop, stopped: true } : { ...stop, mayStop: false };
    case 'RESUME':
      return { ...stop, owed: false, mayStop: true, stopped: false };
    default:
      return stop;
  }
}

/** Whether a `cont` is owed as long as the `stop` may still come. The file on disk says so then. */
export function owesBefore({ owed, mayStop, stopped }: Stop): boolean {
  return owed || mayStop || stopped;
}

/** Whether a `cont` is owed when QEMU has answered the `stop`. */
export function owesAfter({ owed, stopped }: Stop): boolean {
  return owed || stopped;
}

export function withHolder(hold: Hold, holder: Holder): Hold {
  return { ...hold, holders: [...hold.holders.filter(({ job }) => job !== holder.job), holder] };
}

export function withoutHolder(hold: Hold, job: string): Hold {
  return { ...hold, holders: hold.holders.filter((holder) => holder.job !== job) };
}

/** The union of two records of one VM: no holder is lost, no owed `cont`, and no paused job. */
export function both(one: Hold, other: Hold): Hold {
  const jobs = new Set(one.holders.map(({ job }) => job));
  const more = other.holders.filter(({ job }) => !jobs.has(job));
  return {
    holders: [...one.holders, ...more],
    owesCont: one.owesCont || other.owesCont,
    pausedJobs: [...new Set([...one.pausedJobs, ...other.pausedJobs])],
  };
}

/**
 * Whether the guest must be resumed when nobody holds it any more. A guest that has shut down, panicked, migrated away,
 * or waits for its storage is not ours to resume. `isSame`: it is proved to be the process that we stopped; another one
 * may wait in `prelaunch` for the client that started it.
 */
export function mustContinue(hold: Hold, runState: string, isSame: boolean): boolean {
  if (hold.holders.length > 0 || !hold.owesCont) return false;
  return isSame ? isStoppedByStop(runState) : runState === 'paused';
}
