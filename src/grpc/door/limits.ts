/** Limits for what callers use. A limit that depends on the site is an option of the command line. */
import { LARGEST_GRANT_BYTES } from '../../core/grant.ts';
import { CALLER_LIMITS, type CallerLimits } from '../../core/limits.ts';

export interface DoorLimits extends CallerLimits {
  /** How long calls continue on a connection that has become too old; watches are resumed on the next one. */
  readonly graceMs: number;
  /** How long a request may take from its headers to its end. */
  readonly requestMs: number;
  /** How long an answer waits for a caller that does not read it. */
  readonly answerMs: number;
}

export const DEFAULT_LIMITS: DoorLimits = {
  ...CALLER_LIMITS,
  graceMs: 60_000,
  requestMs: 10_000,
  answerMs: 30_000,
};

/** The longest request that BOUNDS allow, which is a Reclaim, and some spare bytes. */
export const REQUEST_BYTES = 160 * 1024;
/** A call has few headers: the caller, and its trace; a gateway's call also the rights from its policy, in base64. */
export const HEADER_LIST_BYTES = { plain: 8 * 1024, gateway: 8 * 1024 + Math.ceil((LARGEST_GRANT_BYTES * 4) / 3) };
export const HEADERS = 64;
export const HANDSHAKE_MS = 10_000;

/** One address may have many watchers, for example a gateway: the rest is for others. */
export function lastingOf({ watches }: CallerLimits): { readonly inAll: number; readonly ofOne: number } {
  return { inAll: watches, ofOne: Math.ceil((watches * 5) / 6) };
}
export const UNARY = { inAll: 1000, ofOne: 500 };
/** Requests that are read before they are complete; the others wait for their ends. */
export const ARRIVING = { inAll: 200, ofOne: 100 };

/** Bytes that wait to be sent, or to be read. A connection with so many gets no more work. */
export const HELD_BYTES = { inAll: 32 * 1024 * 1024, ofOne: 256 * 1024 };
/** The bytes of a request that may be sent before it is read. */
export const WINDOW_BYTES = 16 * 1024;

/** In MiB, for the data that Node keeps for a connection; for a gateway's connection. */
export const SESSION_MIB = { plain: 10, gateway: 64 };
