/** What one host bears; set by whoever runs it. */
import type { Retention } from './job/retention.ts';

export interface Limits {
  /** Jobs that run at a time. */
  readonly jobs: number;
  readonly watchersPerJob: number;
  /** Of jobs that have ended. */
  readonly keep: Retention;
}

/** How much callers may use up, as an operator says it. */
export interface CallerLimits {
  readonly connections: number;
  /** Of one address. */
  readonly peerConnections: number;
  /** Calls at a time on one connection, watches among them. */
  readonly streams: number;
  /** How old a connection gets. */
  readonly connectionMs: number;
}

/** Unless an operator says otherwise. */
export const CALLER_LIMITS: CallerLimits = {
  connections: 500,
  peerConnections: 100,
  streams: 500,
  connectionMs: 3_600_000,
};
