/** How much there may be of what callers use up. What depends on a site is an option of the command line. */

import { LARGEST_GRANT_BYTES } from '../../core/grant.ts';
import { CALLER_LIMITS, type CallerLimits } from '../../core/limits.ts';

export interface DoorLimits extends CallerLimits {
  /** How long calls go on on one that has become too old; watches are resumed on the next. */
  readonly graceMs: number;
  /** How long a request may take from its headers to its end. */
  readonly requestMs: number;
  /** How long an answer waits for who does not take it. */
  readonly answerMs: number;
}

export const DEFAULT_LIMITS: DoorLimits = {
  ...CALLER_LIMITS,
  graceMs: 60_000,
  requestMs: 10_000,
  answerMs: 30_000,
};

/** The longest request that BOUNDS allow, which is a Reclaim, and a little. */
export const REQUEST_BYTES = 160 * 1024;
/** A call has few headers: who calls, and of which trace it is; that of a gateway also what a policy allows, in base64. */
export const HEADER_LIST_BYTES = { plain: 8 * 1024, gateway: 8 * 1024 + Math.ceil((LARGEST_GRANT_BYTES * 4) / 3) };
export const HEADERS = 64;
export const HANDSHAKE_MS = 10_000;

/** Watchers are many behind one address, as of a gateway: what is left is for the others. */
export const LASTING = { inAll: 3000, ofOne: 2500 };
export const UNARY = { inAll: 1000, ofOne: 500 };
/** Requests that are read before they are there; the others wait for their ends. */
export const ARRIVING = { inAll: 200, ofOne: 100 };

/** What waits to be sent, or to be read. A connection that has this much is given no more to do. */
export const HELD_BYTES = { inAll: 32 * 1024 * 1024, ofOne: 256 * 1024 };
/** What may be sent of a request before it is read. */
export const WINDOW_BYTES = 16 * 1024;

/** In MiB, of what Node keeps for a connection; of one that brings the watches of many. */
export const SESSION_MIB = { plain: 10, gateway: 64 };
