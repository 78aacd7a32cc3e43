// How long to wait before the next attempt to connect.

const firstMs = 100;
const maxMs = 5_000;

/**
 * Milliseconds until the next attempt after so many failures in a row (0 or more): doubles from 100 ms to 5
 * s, of which a random half is taken off, so that a host full of restarted VMs is not called by all its
 * clients at once.
 */
export function retryInMs(failures: number, random: number = Math.random()): number {
  const fullMs = Math.min(maxMs, firstMs * 2 ** failures);
  return Math.round(fullMs * (1 - random / 2));
}
