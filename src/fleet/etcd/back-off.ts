/** How long to wait before the next attempt. */
import { setTimeout as sleep } from 'node:timers/promises';

const FIRST_MS = 50;
/** Well below a third of an agent's lease: all are back before the leases that a recovered etcd has extended expire. */
const MOST_MS = 2_000;

/**
 * Milliseconds until the next attempt after so many failures in a row (0 or more): doubles, of which a random half is
 * taken off, so that a fleet does not call a recovered etcd in one instant.
 */
export function retryInMs(failures: number, mostMs = MOST_MS, random: number = Math.random()): number {
  const fullMs = Math.min(mostMs, FIRST_MS * 2 ** failures);
  return Math.round(fullMs * (1 - random / 2));
}

/** Resolves when the time is over or the signal is aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}
