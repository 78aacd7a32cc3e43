/** What one host bears; set by whoever runs it. */
import type { Retention } from './retention.ts';

export interface Limits {
  /** Jobs that run at a time. */
  readonly jobs: number;
  readonly watchersPerJob: number;
  /** Of jobs that have ended. */
  readonly keep: Retention;
}
