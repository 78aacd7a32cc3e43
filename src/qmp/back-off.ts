// How long to wait before the next attempt to connect.

import { ConnectFailed, Disconnected, type QmpError } from './errors.ts';

const FIRST_MS = 100;
const LONGEST_MS = 5_000;

/** A connection that has lasted this long was a working one. */
const WELL_MS = 5_000;

/** For a socket without a greeting that may have another client, which we must not disturb. And for a broken one. */
export const MAX_UNSURE_MS = 60_000;

/** For a socket that is not a monitor. */
const GIVEN_UP_MS = 300_000;

/**
 * Milliseconds until the next attempt after so many failures in a row (0 or more): doubles from 100 ms to 5
 * s (or to `mostMs`), of which a random half is taken off, so that a host full of restarted VMs is not called
 * by all its clients at once.
 */
export function retryInMs(failures: number, random: number = Math.random(), mostMs: number = LONGEST_MS): number {
  return lessByChance(Math.min(mostMs, FIRST_MS * 2 ** failures), random);
}

/** Like retryInMs, for a socket that was given up. */
export function retryGivenUpInMs(random: number = Math.random()): number {
  return lessByChance(GIVEN_UP_MS, random);
}

function lessByChance(fullMs: number, random: number): number {
  return Math.round(fullMs * (1 - random / 2));
}

/** Whether the socket is not a monitor. A socket that was one before only has a problem now. */
export function showsAnother(error: QmpError, generation: number): boolean {
  if (error instanceof Disconnected) return error.why === 'of-no-use';
  return error instanceof ConnectFailed && generation === 0 && ['not-qmp', 'silent'].includes(error.why);
}

/** The data was not QMP, or too much: the next connection will probably do the same. */
export function isBroken(error: QmpError): boolean {
  if (error instanceof Disconnected) return error.why === 'not-qmp' || error.why === 'too-much';
  return error instanceof ConnectFailed && error.why === 'not-qmp';
}

/** Whether QEMU could be asked over a connection with this end and age: then the next one may work, too. */
export function provesWell(error: QmpError, lastedMs: number): boolean {
  return lastedMs >= WELL_MS && error instanceof Disconnected && ['ended', 'failed'].includes(error.why);
}
