/**
 * How fast a job copies, from one look to a later one: so it is known how long `stop` would wait for what is under way. A
 * destination that hangs has no pace.
 */
import type { SeenJob } from './moves.ts';

/** Two looks that are closer tell nothing: what is copied comes in pieces. */
const LEAST_MS = 250;
/** Two that are further apart do not tell how fast it is now. */
const STALE_MS = 2000;

export interface Pace {
  readonly atMs: number;
  readonly copiedBytes: number;
  readonly leftBytes: number;
  readonly bytesPerMs: number | undefined;
  /** Since when there has been nothing left, and nothing copied. */
  readonly stillSinceMs: number | undefined;
}

export const NO_PACE: Pace = {
  atMs: -Infinity,
  copiedBytes: 0,
  leftBytes: 0,
  bytesPerMs: undefined,
  stillSinceMs: undefined,
};

export function paceAfter(
  before: Pace,
  { copiedBytes, remainingBytes }: Pick<SeenJob, 'copiedBytes' | 'remainingBytes'>,
  nowMs: number,
): Pace {
  const isStill = remainingBytes === 0 && copiedBytes === before.copiedBytes;
  const stillSinceMs = isStill ? (before.stillSinceMs ?? nowMs) : undefined;
  const overMs = nowMs - before.atMs;
  if (overMs < LEAST_MS) return { ...before, leftBytes: remainingBytes, stillSinceMs };
  const bytesPerMs = overMs > STALE_MS ? undefined : Math.max(0, copiedBytes - before.copiedBytes) / overMs;
  return { atMs: nowMs, copiedBytes, leftBytes: remainingBytes, bytesPerMs, stillSinceMs };
}

/** Until what may be under way, a buffer at most, is written; undefined: not known yet. */
export function underWayMs({ leftBytes, bytesPerMs }: Pace, bufferBytes: number): number | undefined {
  const underWay = Math.min(leftBytes, bufferBytes);
  if (underWay === 0) return 0;
  return bytesPerMs === undefined ? undefined : underWay / bytesPerMs;
}
