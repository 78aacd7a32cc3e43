/**
 * The one pause of a guest by us, for all jobs of its VM: who wants it still, and whether we owe it a `cont`.
 *
 *           hold(job A)             hold(job B)              release(A)            release(B)
 *  FREE ─────────────────► A ─────────────────► A, B ─────────────────► B ─────────────────► FREE
 *            `stop`                 `stop`                                     `cont`, if it is owed
 *
 * Each hold sends `stop`: it stops a guest that runs, and one that stands still it leaves as it is. Whether it was
 * ours that stopped it, the STOP event before its answer tells. A RESUME ends what we owe: the guest was continued, by us
 * or by another client, and if it stands still again, that was no one of us.
 */
import { isStoppedByStop } from './qemu/guest-state.ts';

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

/** To be written down before `stop`, and kept until its answer. `mayStop`: it may find a guest that runs. */
export function beforeStop(hold: Hold, holder: Holder, mayStop: boolean): Hold {
  const others = hold.holders.filter(({ job }) => job !== holder.job);
  return { holders: [...others, holder], owesCont: hold.owesCont || mayStop };
}

/** QEMU has answered. `owed`: before this `stop`. `stopped`: a guest that ran was stopped while it was under way. */
export function afterStop({ holders }: Hold, how: { readonly owed: boolean; readonly stopped: boolean }): Hold {
  return { holders, owesCont: how.owed || how.stopped };
}

export function withoutHolder({ holders, owesCont }: Hold, job: string): Hold {
  return { holders: holders.filter((holder) => holder.job !== job), owesCont };
}

/** The guest was continued. */
export function afterResume({ holders }: Hold): Hold {
  return { holders, owesCont: false };
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
