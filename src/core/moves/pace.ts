/** The speed of a copy, and so how long `stop` would wait for the data in flight. A hanging destination has no speed. */
import type { SeenJob } from './moves.ts';

/** Two closer looks say nothing, because the copied bytes come in pieces. */
const LEAST_MS = 250;
/** Two looks further apart do not show the present speed. */
const STALE_MS = 2000;

export interface Pace {
  readonly atMs: number;
  readonly copiedBytes: number;
  readonly leftBytes: number;
  readonly bytesPerMs: number | undefined;
  /** Since when nothing has been left to copy, and nothing was copied. */
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

/** The time to write the data in flight, one buffer at most; undefined if it is not known yet. */
export function underWayMs({ leftBytes, bytesPerMs }: Pace, bufferBytes: number): number | undefined {
  const underWay = Math.min(leftBytes, bufferBytes);
  if (underWay === 0) return 0;
  return bytesPerMs === undefined ? undefined : underWay / bytesPerMs;
}
