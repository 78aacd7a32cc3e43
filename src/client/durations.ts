/** Durations of the contract ↔ milliseconds. */
import type { Duration } from '../../generated/google/protobuf/duration.ts';

/** setTimeout takes a little more, but fires at once for a longer time or Infinity. */
const LONGEST_TIMER_MS = 24 * 24 * 60 * 60 * 1000;

/** A time chosen by somebody else, limited for setTimeout and for a deadline of gRPC. */
export function forTimer(ms: number): number {
  return Math.min(ms, LONGEST_TIMER_MS);
}

/** The host's time at a moment of `performance.now()`, as gRPC takes deadlines. It becomes wrong when the clock is set. */
export function dateAt(atMs: number): Date {
  return new Date(Date.now() + atMs - performance.now());
}

/** For a call; Infinity if there is none. */
export function deadlineOf(atMs: number): { deadline?: Date } {
  return atMs === Infinity ? {} : { deadline: dateAt(atMs) };
}

export function fromMs(ms: number): Duration {
  return { seconds: BigInt(Math.trunc(ms / 1000)), nanos: Math.round((ms % 1000) * 1e6) };
}

export function toMs(duration: Duration): number;
export function toMs(duration: Duration | undefined): number | undefined;
export function toMs(duration: Duration | undefined): number | undefined {
  return duration && Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
