/** Durations of the contract ↔ milliseconds. */
import type { Duration } from '../../generated/google/protobuf/duration.ts';

/** NaN stands for an invalid duration, which every rule refuses. */
export function fromMs(ms: number): Duration {
  if (Number.isNaN(ms)) return { seconds: 1n, nanos: -1 };
  return { seconds: BigInt(Math.trunc(ms / 1000)), nanos: (ms % 1000) * 1e6 };
}

/** To the millisecond. NaN, which every rule refuses, for an invalid duration: duration.proto requires one sign. */
export function toMs(duration: Duration | undefined): number | undefined {
  if (duration === undefined) return undefined;
  const { seconds, nanos } = duration;
  const isOneSign = seconds === 0n || nanos === 0 || seconds > 0n === nanos > 0;
  return isOneSign && Math.abs(nanos) < 1e9 ? Number(seconds) * 1000 + Math.round(nanos / 1e6) : Number.NaN;
}

/** Undefined stays so. */
export function durationOf(ms: number | undefined): Duration | undefined {
  return ms === undefined ? undefined : fromMs(ms);
}
