/**
 * The present time. The host's clock can be set, forward or back by years, at any moment: its time is a text for
 * people, so that no code calculates with it. Waits, limits and comparisons use `performance.now()`, which never goes
 * back; times that must hold over a restart use src/agent/host/host-clock.ts.
 */

/** The host's time, RFC 3339, UTC, milliseconds. */
export function timestamp(): string {
  return new Date().toISOString();
}

/** The host's time at a moment of `performance.now()`: gRPC needs it for a deadline. It is computed for each call. */
export function dateAt(atMs: number): Date {
  return new Date(Date.now() + atMs - performance.now());
}

/** The opposite, for a deadline that gRPC has just computed from a duration. Infinity if there is none. */
export function momentOf(deadline: Date | number): number {
  return performance.now() + Number(deadline) - Date.now();
}

/** For a number that should be new, as long as nobody sets the clock. */
export function epochSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
