/** The input of a row of core/next-move: the recorded job, QEMU's state, and the commands that QEMU was asked. */

import type { Job } from '../job/job.ts';
import { isInQemu } from '../job/job-facts.ts';
import type { Concluded, EntryBody, PauseReason } from '../job/journal-entry.ts';
import type { JobState } from '../job/transitions.ts';
import { conclusion } from './conclusion.ts';
import type { Asked, Move, QemuRefusals, Seen, SeenJob } from './moves.ts';
import type { Written } from './rows.ts';

export interface Situation {
  readonly job: Job;
  readonly state: JobState;
  readonly seen: Seen;
  readonly asked: Asked;
  readonly refused: QemuRefusals;
  /** QEMU's conclusion of the job, if there is one that is not recorded yet. */
  readonly unwritten: Concluded | undefined;
}

/** QEMU has the job and has not concluded it. */
export interface Going extends Situation {
  readonly seen: Extract<Seen, { qemu: 'UP' }>;
  readonly now: SeenJob;
  /** QEMU reports the job as ready, or would if no client drained the disks. */
  readonly settled: boolean;
  readonly pause: PauseReason | undefined;
}

export type Rows<S = Situation> = Written<S, Move>;

export const WAIT: Move = { move: 'wait' };
export const RELEASE: Move = { move: 'release-guest' };

export function record(entry: EntryBody): Move {
  return { move: 'record', entry };
}

export function situationOf(job: Job, seen: Seen, asked: Asked, refused: QemuRefusals): Situation {
  const { state } = job;
  return { job, state, seen, asked, refused, unwritten: isInQemu(job) ? conclusion(job, seen) : undefined };
}

export function goingOf(situation: Situation): Going | undefined {
  const { job, seen } = situation;
  if (seen.qemu !== 'UP' || seen.job === undefined) return undefined;
  const settled = seen.job.status === 'ready' || seen.job.status === 'standby';
  return { ...situation, seen, now: seen.job, settled, pause: pauseOf(seen.job, job) };
}

/** QEMU forgets at each `cont` of the guest which error paused a job, and knows nothing of the pauses of this service. */
function pauseOf({ paused, ioStatus }: SeenJob, { pauseReason, space, pausedByClient }: Job): PauseReason | undefined {
  if (!paused) return undefined;
  if (ioStatus === 'ok') return pauseReason ?? (space?.level === 'FULL' && !pausedByClient ? 'NO_SPACE' : 'USER');
  return ioStatus === 'nospace' ? 'NO_SPACE' : 'IO_ERROR';
}
