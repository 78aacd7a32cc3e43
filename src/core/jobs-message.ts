/** What a watcher of all jobs is told, and where it is in that. */
import type { Failure } from './errors.ts';
import type { JobEvent } from './job/job-event.ts';

/**
 * A place among all entries of one host: they have one order there, whichever job they are of. `epoch`: of what that is the
 * order; with another one `at` means nothing.
 */
export interface Position {
  readonly epoch: string;
  readonly at: number;
}

/** By host. */
export type Positions = ReadonlyMap<string, Position>;

export type JobsMessage =
  /** Of an entry with its position; SNAPSHOT and PROGRESS have none. */
  | { readonly is: 'EVENT'; readonly host: string; readonly event: JobEvent; readonly position?: Position }
  /** A snapshot follows. `lost`: why the watch cannot go on where it was; undefined: it was nowhere. */
  | { readonly is: 'SNAPSHOT'; readonly host: string; readonly lost: string | undefined }
  /** The watcher has all of the host, up to here. `starting`: its jobs that have not begun to run yet. */
  | {
      readonly is: 'SYNCED';
      readonly host: string;
      readonly starting: readonly string[];
      readonly position: Position;
    }
  | { readonly is: 'UNREACHABLE'; readonly host: string; readonly why: Failure }
  /** Each host is synced, or unreachable. */
  | { readonly is: 'COMPLETE' }
  /** Nothing happened; the watcher has moved on all the same. */
  | { readonly is: 'HEARTBEAT'; readonly positions: Positions };

/** Where it is after a message, on which hosts. */
export function positionsIn(message: JobsMessage): Positions {
  if (message.is === 'HEARTBEAT') return message.positions;
  if (!('position' in message) || message.position === undefined) return new Map();
  return new Map([[message.host, message.position]]);
}
