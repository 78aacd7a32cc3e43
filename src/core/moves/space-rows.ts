/** The consequences of a look at the destination of a running copy: one table. */
import { LOOK_MS } from '../job/convergence.ts';
import type { Job } from '../job/job.ts';
import { RESERVE_BYTES, restOfCopy, spaceLevel } from '../job/space.ts';
import type { SpaceLevel, SpaceTold } from '../job/space-told.ts';
import { firstOf, inOrder, type Written } from './rows.ts';

const RETRY = { firstMs: LOOK_MS, factor: 4, mostMs: 600_000 };

/** A look at the destination of a copy. */
export interface SpaceSeen {
  /** Undefined if it cannot be known. */
  readonly freeBytes: number | undefined;
  /** The bytes that the destination has allocated. */
  readonly allocatedBytes: number;
  /** How many bytes fewer are free than at the last look. */
  readonly takenBytes: number;
  /** Since when the job is seen as paused. */
  readonly waitedMs: number;
}

interface Space {
  readonly job: Job;
  readonly freeBytes: number;
  /** Free at the next look, if the copy goes on as since the last one. */
  readonly freeNextBytes: number;
  /** The bytes that the rest of the copy takes; 0 for an older journal. */
  readonly restBytes: number;
  /** The most that the destination can still take. */
  readonly mostBytes: number;
  readonly hasWaited: boolean;
}

const isWaiting = ({ job }: Space) => job.pauseReason === 'NO_SPACE';

function mayPause({ accepted: { options }, state, pauseReason }: Job): boolean {
  const isAtWork = state === 'RUNNING' || state === 'READY';
  return options.onNoSpace === 'PAUSE' && isAtWork && pauseReason === undefined;
}

const isBelow = (bytes: number, needed: number, { mostBytes }: Space) => bytes < Math.min(needed, mostBytes);

/** With overcommit the caller does not believe the estimate: then twice the reserve has to do. */
function fits(space: Space): boolean {
  const rest = space.job.accepted.options.overcommit === true ? 0 : space.restBytes;
  return !isBelow(space.freeBytes, RESERVE_BYTES + Math.max(RESERVE_BYTES, rest), space);
}

/** The level for a destination of which the free bytes are known. It stays if no row fits. */
const KNOWN: Written<Space, SpaceLevel> = {
  'paused, no space | less than the reserve is free | FULL': (s) =>
    isWaiting(s) && isBelow(s.freeBytes, RESERVE_BYTES, s) && 'FULL',
  'paused, no space | the rest fits | ENOUGH; later each time that QEMU finds no space all the same': (s) =>
    isWaiting(s) && fits(s) && s.hasWaited && 'ENOUGH',
  'running, may be paused | the reserve is used up before the next look | FULL': (s) =>
    mayPause(s.job) && isBelow(s.freeNextBytes, RESERVE_BYTES, s) && 'FULL',
  'running | the rest and the reserve do not fit | LOW': (s) =>
    !isWaiting(s) && isBelow(s.freeBytes, s.restBytes + RESERVE_BYTES, s) && 'LOW',
  'running | the rest fits | ENOUGH': (s) => !isWaiting(s) && fits(s) && 'ENOUGH',
};

export const SPACE_ROWS = inOrder(KNOWN);

/** The entry that a look leads to; undefined if nothing has changed. The levels act by rows of core/moves/next-move. */
export function spaceNews(job: Job, seen: SpaceSeen): SpaceTold | undefined {
  // QEMU may have made the pause already: it is recorded first, or it would look like that of a client.
  if (job.space?.level === 'FULL' && mayPause(job)) return undefined;
  const { freeBytes, waitedMs } = seen;
  const neededBytes = restOfCopy(job, seen.allocatedBytes);
  const hasWaited = waitedMs >= waitMs(job, freeBytes !== undefined);
  const isPaused = job.pauseReason === 'NO_SPACE';
  const level =
    freeBytes === undefined
      ? // Only another attempt shows whether there is room.
        isPaused && hasWaited && 'ENOUGH'
      : firstOf(SPACE_ROWS, known(job, seen, { freeBytes, restBytes: neededBytes, hasWaited }))?.move;
  const isTold = job.space !== undefined || !isPaused;
  if (level === undefined || level === false || (isTold && level === spaceLevel(job))) return undefined;
  return { entry: 'space', level, neededBytes, ...(freeBytes !== undefined && { freeBytes }) };
}

function known(
  job: Job,
  { allocatedBytes, takenBytes }: SpaceSeen,
  found: Pick<Space, 'freeBytes' | 'restBytes' | 'hasWaited'>,
): Space {
  const mostBytes = Math.max(0, (job.accepted.space?.wholeBytes ?? Infinity) - allocatedBytes);
  return { ...found, job, mostBytes, freeNextBytes: found.freeBytes - Math.min(takenBytes, found.restBytes) };
}

/** How long a paused job waits: longer each time that QEMU found no space though there seemed to be some. */
function waitMs({ spaceRetries }: Job, isKnown: boolean): number {
  const attempts = isKnown ? spaceRetries : spaceRetries + 1;
  return attempts === 0 ? 0 : Math.min(RETRY.firstMs * RETRY.factor ** attempts, RETRY.mostMs);
}
