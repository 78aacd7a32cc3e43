/** The source of a watched job, for all its watchers: a host's journal has one, and so does a stream from an agent. */
import type { JobEvent } from '../core/job/job-event.ts';

export interface Feed {
  /** Calls back at another revision, at other progress, and at the reason for an early end; until disposed of. */
  onChange(look: () => void): Disposable;
  /** The first revision that is kept. */
  readonly oldest: number;
  /** The last revision. */
  readonly latest: number;
  /** The entry of a revision. Undefined if it does not exist yet. */
  at(revision: number): JobEvent | undefined;
  /** The latest entry, with the job after it. */
  readonly progress: JobEvent | undefined;
  /** The reason for an early end, if the job has not ended. */
  readonly failed?: unknown;
  /** Wants progress with this interval, until it is disposed of. */
  join(intervalMs: number): Disposable;
}
