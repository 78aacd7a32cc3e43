/** The messages to a watcher of all jobs, and its position among them. */
import type { Failure } from './errors.ts';
import type { JobEvent } from './job/job-event.ts';

/**
 * A position in the one order of all entries of a host, over all jobs. `epoch` identifies that order: with another
 * epoch `at` has no meaning.
 */
export interface Position {
  readonly epoch: string;
  readonly at: number;
}

/** By host. */
export type Positions = ReadonlyMap<string, Position>;

export type JobsMessage =
  /** An event of an entry has the position of the entry. SNAPSHOT and PROGRESS have no position. */
  | { readonly is: 'EVENT'; readonly host: string; readonly event: JobEvent; readonly position?: Position }
  /** A snapshot follows. `lost`: why the watch cannot continue at its position; undefined if it had no position. */
  | { readonly is: 'SNAPSHOT'; readonly host: string; readonly lost: string | undefined }
  /** The watcher has all entries of the host up to here. `starting`: jobs of the host that do not run yet. */
  | {
      readonly is: 'SYNCED';
      readonly host: string;
      readonly starting: readonly string[];
      readonly position: Position;
    }
  | { readonly is: 'UNREACHABLE'; readonly host: string; readonly why: Failure }
  /** Each host is synced or unreachable. */
  | { readonly is: 'COMPLETE' }
  /** Nothing happened, but the positions have moved on. */
  | { readonly is: 'HEARTBEAT'; readonly positions: Positions };

/** The positions of a watcher after a message, on the hosts that the message is about. */
export function positionsIn(message: JobsMessage): Positions {
  if (message.is === 'HEARTBEAT') return message.positions;
  if (!('position' in message) || message.position === undefined) return new Map();
  return new Map([[message.host, message.position]]);
}
