/**
 * What time it is. The host's clock can be set, forward or back by years, at any moment: what it says is for people to read,
 * and a text, so that nobody reckons with it. Who waits, limits or compares counts by `performance.now()`, which only goes
 * forward; what has to hold over a restart, by src/agent/host/host-clock.ts.
 */

/** The host's time, RFC 3339, UTC, milliseconds. */
export function timestamp(): string {
  return new Date().toISOString();
}

/** The host's time at a moment of `performance.now()`. gRPC wants it of a deadline: it is made for each call, at the last moment. */
export function dateAt(atMs: number): Date {
  return new Date(Date.now() + atMs - performance.now());
}

/** The other way round, of a deadline that gRPC has just made of a duration. Infinity: there is none. */
export function momentOf(deadline: Date | number): number {
  return performance.now() + Number(deadline) - Date.now();
}

/** For a number that is to be a new one, as far as nobody has set the clock. */
export function epochSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
