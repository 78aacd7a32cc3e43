/** What there is, in numbers, for those who measure: without a name of a domain, a job, a file or a caller. */

import type { PauseReason } from './job/journal-entry.ts';
import type { Convergence } from './job/progress.ts';
import type { JobState } from './job/transitions.ts';
import type { JobKind } from './job-options.ts';

/** A job that has not ended. */
export interface JobFigures {
  readonly kind: JobKind;
  readonly state: JobState;
  readonly pauseReason: PauseReason | undefined;
  /** For how long it has been READY. Undefined: it is not, or that is not known. */
  readonly readyForMs: number | undefined;
  /** Undefined: QEMU has not been asked yet. */
  readonly progress:
    | { readonly currentBytes: number; readonly endBytes: number; readonly convergence: Convergence }
    | undefined;
}

export interface HostFigures {
  readonly jobs: readonly JobFigures[];
  /** What jobs have copied since this process began. */
  readonly copiedBytes: number;
  readonly links: { readonly up: number; readonly down: number };
  /** How often a QEMU that was connected came back, since this process began. */
  readonly reconnects: number;
  readonly watchers: number;
  /** Files in the folder of the journals that are none, or of no job that is known. */
  readonly strayFiles: number;
  readonly leftovers: readonly ('FILE' | 'NODE' | 'BITMAP' | 'QEMU_JOB')[];
}

export interface FleetFigures {
  /** Whose agent is in the directory, and answered when it was last asked. */
  readonly reachable: number;
  /** Whose agent is in the directory, and did not answer. */
  readonly unreachable: number;
  /** That own domains, and whose agent is not in the directory. */
  readonly missing: number;
  readonly watchers: number;
  /** The streams from agents that these share. */
  readonly upstreamWatches: number;
}
