/** What there is to watch of one job, for all who do: a host's journal has it, and a stream from an agent. */
import type { JobEvent } from '../core/job/job-event.ts';
import type { Changes } from '../lib/wake.ts';

export interface Feed {
  /** Whatever there is to see: another revision, other progress, or why there will be no more. */
  readonly changed: Changes;
  /** The first revision that is kept. */
  readonly oldest: number;
  /** The entry of a revision. Undefined: it is not there yet. */
  at(revision: number): JobEvent | undefined;
  /** The latest, of the job as it was then. */
  readonly progress: JobEvent | undefined;
  /** Why there will be no more, where the job has not ended. */
  readonly failed?: unknown;
  /** Somebody watches, and wants progress that often, until it is disposed of. */
  join(intervalMs: number): Disposable;
}
