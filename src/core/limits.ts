/** The limits of one host, as its operator sets them. */
import type { Retention } from './job/retention.ts';

export interface Limits {
  /** Jobs that may run at the same time. */
  readonly jobs: number;
  readonly watchersPerJob: number;
  /** How many ended jobs are remembered. */
  readonly keep: Retention;
}

/** How much callers may use, as the operator sets it. */
export interface CallerLimits {
  readonly connections: number;
  /** Connections from one address. */
  readonly peerConnections: number;
  /** Concurrent calls on one connection, watches included. */
  readonly streams: number;
  /** Concurrent watches on all connections; five sixths of them from one address. */
  readonly watches: number;
  /** The longest age of a connection. */
  readonly connectionMs: number;
}

/** The defaults. */
export const CALLER_LIMITS: CallerLimits = {
  connections: 500,
  peerConnections: 100,
  streams: 500,
  watches: 3000,
  connectionMs: 3_600_000,
};
