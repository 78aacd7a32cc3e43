/** Durations of the contract ↔ milliseconds. */
import type { Duration } from '../../generated/google/protobuf/duration.ts';

/** setTimeout takes a little more, and fires at once for a longer time, and for ever. */
const LONGEST_TIMER_MS = 24 * 24 * 60 * 60 * 1000;

/** What setTimeout, and gRPC as a deadline, may be given of a time that somebody else has chosen. */
export function forTimer(ms: number): number {
  return Math.min(ms, LONGEST_TIMER_MS);
}

/** The host's time at a moment of `performance.now()`: gRPC takes a deadline so, and it is wrong as soon as somebody sets the clock. */
export function dateAt(atMs: number): Date {
  return new Date(Date.now() + atMs - performance.now());
}

/** Of a call; Infinity: none. */
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
