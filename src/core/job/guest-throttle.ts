/**
 * The throttle of a guest: a limit on its writes, so that a copy ends. The id of the job is the name of its group in
 * QEMU, so that it is found also without a journal. While the job goes on, the limit is not taken away but set so high
 * that it has no effect: to take it away, QEMU drains the disk.
 */
import { type Failure, failure } from '../errors.ts';
import type { JobOptions } from '../job-options.ts';
import { type DiskLimits, NO_EFFECT } from '../qemu/limits.ts';
import type { EndVerdict } from './convergence.ts';
import type { Concluded, EntryBody, JournalEntry } from './journal-entry.ts';
import { isJobId } from './names.ts';
import type { ThrottleTold } from './throttle-told.ts';

export interface GuestThrottle {
  readonly is: 'REQUESTED' | 'IN_FORCE' | 'WITHOUT_EFFECT' | 'LIFTED';
  /** All that were requested; the last one counts. */
  readonly limits: readonly number[];
  /** The time of the first request, RFC 3339, and on the clock of the state folder. */
  readonly since: string;
  readonly sinceMs: number | undefined;
}

/** Why a guest was not slowed down, as it was reported last for each reason. */
export interface NotSlowedDown {
  readonly failure: Failure;
  /** How many verdicts were written before. */
  readonly verdicts: number;
}

/** The part of a job that decides about its throttle. */
interface MayThrottle {
  readonly accepted: {
    readonly job: string;
    readonly domain: string;
    readonly disk: string;
    readonly options: Pick<JobOptions, 'endPolicy'>;
    readonly recovered?: true;
  };
  readonly throttle?: GuestThrottle | undefined;
  readonly notSlowedDown?: readonly NotSlowedDown[] | undefined;
  readonly verdicts: number;
  readonly giveUpRequested: boolean;
  readonly concluded: Pick<Concluded, 'how'> | undefined;
}

/** Whether a limit of this job may be in QEMU. */
export function hasMark({ throttle }: Pick<MayThrottle, 'throttle'>): boolean {
  return throttle !== undefined && ['REQUESTED', 'IN_FORCE', 'WITHOUT_EFFECT'].includes(throttle.is);
}

export function isSlowedDown({ throttle }: Pick<MayThrottle, 'throttle'>): boolean {
  // A limit that is only requested lowers one that is in force, or is set within a moment.
  return throttle?.is === 'IN_FORCE' || throttle?.is === 'REQUESTED';
}

/** No job ends while a limit of it may be in QEMU, unless QEMU cannot be asked. */
export function throttleAllows(job: MayThrottle, entry: EntryBody): boolean {
  const { throttle, accepted, concluded, giveUpRequested } = job;
  switch (entry.entry) {
    case 'throttle-requested': {
      const isWanted = accepted.options.endPolicy?.guestThrottle !== undefined || accepted.recovered === true;
      const isLower = throttle?.is === 'IN_FORCE' && entry.limitBytesPerSecond < (throttle.limits.at(-1) ?? 0);
      return isWanted && concluded === undefined && (throttle === undefined || isLower);
    }
    case 'throttled':
      return throttle?.is === 'REQUESTED';
    case 'throttle-lifted':
      return hasMark(job);
    case 'throttle-not-taken':
      return throttle === undefined && concluded === undefined && !isTold(job, entry.failure);
    case 'ended':
      return !hasMark(job) || giveUpRequested || concluded?.how === 'GIVEN_UP';
    default:
      return true;
  }
}

export function throttleAfter(
  { throttle }: Pick<MayThrottle, 'throttle'>,
  entry: JournalEntry,
): GuestThrottle | undefined {
  switch (entry.entry) {
    case 'throttle-requested': {
      const limits = [...(throttle?.limits ?? []), entry.limitBytesPerSecond];
      return { since: entry.time, sinceMs: entry.clock?.ms, ...throttle, is: 'REQUESTED', limits };
    }
    case 'throttled':
      return throttle && { ...throttle, is: 'IN_FORCE' };
    case 'throttle-lifted':
      return throttle && { ...throttle, is: entry.hasMark === true ? 'WITHOUT_EFFECT' : 'LIFTED' };
    default:
      return throttle;
  }
}

/** A floor that is too high is reported once for each written verdict, another client’s limit until it changes. */
function isTold({ notSlowedDown = [], verdicts }: MayThrottle, { reason, text }: Failure): boolean {
  const last = notSlowedDown.find(({ failure: told }) => told.reason === reason);
  return reason === 'GUEST_FLOOR_TOO_HIGH' ? last?.verdicts === verdicts : last?.failure.text === text;
}

export function notSlowedDownAfter(
  { notSlowedDown = [], verdicts }: Pick<MayThrottle, 'notSlowedDown' | 'verdicts'>,
  { failure: told }: { readonly failure: Failure },
): readonly NotSlowedDown[] {
  const others = notSlowedDown.filter(({ failure: { reason } }) => reason !== told.reason);
  return [...others, { failure: told, verdicts }];
}

/** The part of the rate at which the copy would just end: a copy whose floor is at zero takes very long. */
const MARGIN = 0.7;
/** With less than this part, it still ends. */
const JUST_ENOUGH = 0.9;

/** The entry for the next limit, or for why there is none. Undefined if there is nothing to do. */
export function nextThrottle(
  { accepted, throttle }: Pick<MayThrottle, 'accepted' | 'throttle'>,
  verdict: EndVerdict,
): ThrottleTold | undefined {
  const floor = accepted.options.endPolicy?.guestThrottle?.floorBytesPerSecond;
  const isOpen = throttle === undefined || throttle.is === 'IN_FORCE';
  // If the storage does not answer, a slower guest does not help.
  const writesTooMuch = verdict.because === 'GUEST' || verdict.because === 'LIMIT';
  if (floor === undefined || !isOpen || !writesTooMuch) return undefined;
  const limit = throttle === undefined ? firstLimit(verdict, floor) : lowerLimit(throttle, floor);
  if (limit === undefined) return undefined;
  if (typeof limit === 'object') return { entry: 'throttle-not-taken', failure: limit };
  return { entry: 'throttle-requested', limitBytesPerSecond: limit };
}

/** The first limit for a copy with this verdict, or why there is none. Undefined if a limit cannot help. */
function firstLimit(verdict: EndVerdict, floorBytesPerSecond: number): number | Failure | undefined {
  const { bytesPerSecond, demandBytesPerSecond, guestBytesPerSecond } = verdict;
  if (bytesPerSecond === 0 || demandBytesPerSecond === 0) return undefined;
  // The demand is in proportion to the guest's writes.
  const endsBelow = (bytesPerSecond / demandBytesPerSecond) * guestBytesPerSecond;
  if (floorBytesPerSecond <= endsBelow * JUST_ENOUGH)
    return Math.floor(Math.max(floorBytesPerSecond, endsBelow * MARGIN));
  const neededBytes = Math.floor(endsBelow * JUST_ENOUGH);
  return failure('GUEST_FLOOR_TOO_HIGH', { floorBytes: floorBytesPerSecond, neededBytes });
}

/** The limit after one that did not help; undefined at the floor. */
function lowerLimit({ limits }: Pick<GuestThrottle, 'limits'>, floorBytesPerSecond: number): number | undefined {
  const last = limits.at(-1) ?? 0;
  return last <= floorBytesPerSecond ? undefined : Math.floor(Math.max(floorBytesPerSecond, last / 2));
}

/** Whether the limit that was set is not there any more: another client has changed it, or the disk is gone. */
export function isChanged(
  found: DiskLimits | undefined,
  { accepted, throttle }: Pick<MayThrottle, 'accepted' | 'throttle'>,
): boolean {
  // A first limit that is only requested may not be there yet.
  const wasSet = throttle?.is !== 'REQUESTED' || throttle.limits.length > 1;
  return throttle !== undefined && wasSet && (found === undefined || !isOurs(found, accepted.job, throttle));
}

/** Why the guest cannot be slowed down: its disk has a limit of another client. */
export function refusedThrottle(
  found: DiskLimits | undefined,
  job: Pick<MayThrottle, 'accepted' | 'throttle'>,
): Failure | undefined {
  if (found === undefined || isFree(found) || isOurs(found, job.accepted.job, job.throttle)) return undefined;
  const { disk, domain } = job.accepted;
  return failure('GUEST_LIMIT_SHARED', { disk, domain, group: found.group ?? 'unnamed' });
}

function isFree({ group, limits }: DiskLimits): boolean {
  return group === undefined && Object.keys(limits).length === 0;
}

/** Whether it has our mark, and is as we set it: another client that names no group leaves the disk in ours. */
export function isOurs({ group, limits }: DiskLimits, job: string, throttle: GuestThrottle | undefined): boolean {
  const { bps_wr: limit, ...others } = limits;
  if (group !== job || limit === undefined || Object.keys(others).length > 0) return false;
  return throttle === undefined || limit === NO_EFFECT || throttle.limits.includes(limit);
}

/** Whether a limit in QEMU is one that a job has left: `job` is the one of its group. */
export function isToBeTakenAway(
  found: DiskLimits,
  job: { readonly throttle?: GuestThrottle | undefined; readonly endTime?: string | undefined } | undefined,
): boolean {
  const { group } = found;
  if (group === undefined || !isJobId(group)) return false;
  if (job === undefined) return isOurs(found, group, undefined);
  // A job that has not ended does it itself; one that has lifted its limit has left it to another client.
  return job.endTime !== undefined && job.throttle !== undefined && isOurs(found, group, job.throttle);
}
