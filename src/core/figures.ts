/** The numbers of a host or fleet for metrics, without the name of a domain, a job, a file or a caller. */

import type { PauseReason } from './job/journal-entry.ts';
import type { Progress } from './job/progress.ts';
import type { SpaceLevel } from './job/space-told.ts';
import type { JobState } from './job/transitions.ts';
import type { JobKind } from './job-options.ts';

/** A job that has not ended. */
export interface JobFigures {
  readonly kind: JobKind;
  readonly state: JobState;
  readonly pauseReason: PauseReason | undefined;
  /** The space at its destination. Undefined if it is not known. */
  readonly space: SpaceLevel | undefined;
  /** For how long the job has been READY. Undefined if it is not, or if that is not known. */
  readonly readyForMs: number | undefined;
  /** Whether its pivot needs a record that the owner of the VM's configuration has not sent yet. */
  readonly waitsForRecord: boolean;
  /** Whether its guest is slowed down so that it ends. */
  readonly slowsGuest: boolean;
  /** Undefined if QEMU has not been asked yet. */
  readonly progress:
    | { readonly currentBytes: number; readonly endBytes: number; readonly convergence: Progress['convergence'] }
    | undefined;
}

export interface HostFigures {
  readonly jobs: readonly JobFigures[];
  /** Bytes that jobs have copied since this process began. */
  readonly copiedBytes: number;
  readonly links: { readonly up: number; readonly down: number };
  /** How often a connected QEMU came back since this process began. */
  readonly reconnects: number;
  readonly watchers: number;
  /** The least free bytes of all file systems with the destination of a running copy. Undefined if there is none. */
  readonly leastFreeBytes: number | undefined;
  /** Files in the folder of journals that are not journals, or not of a known job. */
  readonly strayFiles: number;
  readonly leftovers: readonly ('FILE' | 'NODE' | 'QEMU_JOB' | 'THROTTLE')[];
}

export interface FleetFigures {
  /** Hosts whose agent is in the directory, and answered the last call. */
  readonly reachable: number;
  /** Hosts whose agent is in the directory, and did not answer the last call. */
  readonly unreachable: number;
  /** Hosts that own domains, and whose agent is not in the directory. */
  readonly missing: number;
  readonly watchers: number;
  /** The streams from agents that the watchers share. */
  readonly upstreamWatches: number;
}
