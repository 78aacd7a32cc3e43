/**
 * The one pause of a guest by us, for all jobs of its VM: who wants it still, and whether we owe it a `cont`.
 *
 *           hold(job A)             hold(job B)              release(A)            release(B)
 *  FREE ─────────────────► A ─────────────────► A, B ─────────────────► B ─────────────────► FREE
 *            `stop`                 `stop`                                     `cont`, if it is owed
 *
 * Each hold sends `stop`: it stops a guest that runs, and one that stands still it leaves as it is. Whether it was
 * ours that stopped it, the STOP event before its answer tells. A RESUME ends what we owe: the guest was continued, by us
 * or by another client, and if it stands still again, that was no one of us; unless a `stop` of ours is still to come.
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
  /** The guest stands still by our `stop`, or may: whoever finds this when nobody holds it any more continues it. */
  readonly owesCont: boolean;
}

export const FREE: Hold = { holders: [], owesCont: false };

export function isFree({ holders, owesCont }: Hold): boolean {
  return holders.length === 0 && !owesCont;
}

/** A `stop` of ours, until it is known that QEMU has nothing more to do for it. */
export interface Stop {
  /** WAITING to be sent, which may take long. SENT: QEMU has it, and what stops the guest may be it. */
  readonly is: 'BEING_WRITTEN_DOWN' | 'WAITING' | 'SENT';
  /** The guest stood still by our doing before, and nobody has continued it since. */
  readonly owed: boolean;
  /** It finds a guest that runs, as far as is known. */
  readonly mayStop: boolean;
  /** A guest that ran was stopped since it was sent. */
  readonly stopped: boolean;
}

/** Others stop and continue the guest meanwhile. */
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

/** Is a `cont` owed as long as it may come still? What is on disk says so then. */
export function owesBefore({ owed, mayStop, stopped }: Stop): boolean {
  return owed || mayStop || stopped;
}

/** And when QEMU has answered it? */
export function owesAfter({ owed, stopped }: Stop): boolean {
  return owed || stopped;
}

export function withHolder({ holders, owesCont }: Hold, holder: Holder): Hold {
  return { holders: [...holders.filter(({ job }) => job !== holder.job), holder], owesCont };
}

export function withoutHolder({ holders, owesCont }: Hold, job: string): Hold {
  return { holders: holders.filter((holder) => holder.job !== job), owesCont };
}

/** What is known of one VM from two sides: nobody is forgotten, and nothing that is owed. */
export function both(one: Hold, other: Hold): Hold {
  const jobs = new Set(one.holders.map(({ job }) => job));
  const more = other.holders.filter(({ job }) => !jobs.has(job));
  return { holders: [...one.holders, ...more], owesCont: one.owesCont || other.owesCont };
}

/**
 * Nobody holds the guest any more: is it to be continued? One that has shut down, panicked, left for another QEMU, or
 * waits for its storage is not ours to continue. `isSame`: it is proved to be the process that we stopped; another one
 * may wait in `prelaunch` for whoever has started it.
 */
export function mustContinue(hold: Hold, runState: string, isSame: boolean): boolean {
  if (hold.holders.length > 0 || !hold.owesCont) return false;
  return isSame ? isStoppedByStop(runState) : runState === 'paused';
}
