// How long to wait before the next attempt to connect.

import { ConnectFailed, Disconnected, type QmpError } from './errors.ts';

const FIRST_MS = 100;
const LONGEST_MS = 5_000;

/** A connection that has lasted so long was one. */
const WELL_MS = 5_000;

/** For a socket that greets nobody and whose client may be another: who waits for it is in the way of others. And for what is broken. */
export const MAX_UNSURE_MS = 60_000;

/** For a socket that is no monitor. */
const GIVEN_UP_MS = 300_000;

/**
 * Milliseconds until the next attempt after so many failures in a row (0 or more): doubles from 100 ms to 5
 * s (or to `mostMs`), of which a random half is taken off, so that a host full of restarted VMs is not called
 * by all its clients at once.
 */
export function retryInMs(failures: number, random: number = Math.random(), mostMs: number = LONGEST_MS): number {
  return lessByChance(Math.min(mostMs, FIRST_MS * 2 ** failures), random);
}

/** As retryInMs, for what has been given up. */
export function retryGivenUpInMs(random: number = Math.random()): number {
  return lessByChance(GIVEN_UP_MS, random);
}

function lessByChance(fullMs: number, random: number): number {
  return Math.round(fullMs * (1 - random / 2));
}

/** What is behind the socket is no monitor. Once it has been one, what is wrong now is taken for a trouble of that. */
export function showsAnother(error: QmpError, generation: number): boolean {
  if (error instanceof Disconnected) return error.why === 'of-no-use';
  return error instanceof ConnectFailed && generation === 0 && ['not-qmp', 'silent'].includes(error.why);
}

/** What was heard is no QMP, or more than there is room for: it is as likely to be so the next time. */
export function isBroken(error: QmpError): boolean {
  if (error instanceof Disconnected) return error.why === 'not-qmp' || error.why === 'too-much';
  return error instanceof ConnectFailed && error.why === 'not-qmp';
}

/** A connection that has ended so, after so long, was one over which QEMU could be asked: the next one may be, too. */
export function provesWell(error: QmpError, lastedMs: number): boolean {
  return lastedMs >= WELL_MS && error instanceof Disconnected && ['ended', 'failed'].includes(error.why);
}
