/** What somebody who looks at a job should know or do now, in a sentence or two. Pure. */
import {
  Convergence,
  DestinationContent,
  type Job,
  Job_State,
  JobKind,
  PauseReason,
} from '../generated/es/blockjob/v1/job_pb.js';
import { reasonIn } from './reasons.ts';
import type { Tone } from './words.ts';

/** What to do after a failure, by its reason. */
const AFTER: Readonly<Record<string, string>> = {
  NO_SPACE: 'Make room at the destination, or name another one, and start the job again.',
  ACCESS_DENIED: 'Give QEMU the right to the file, and start the job again.',
  JOB_LOST: 'Look whether the VM runs still, and start the job again.',
  NOT_ON_DISK: 'Keep all images, and read the outcome: what was written may not be on disk.',
  BUG: "Look into the service's log for that id, please, and report it.",
};

export interface Advice {
  readonly tone: Tone;
  readonly title: string;
  readonly text: string;
}

/** Undefined: nothing is out of the ordinary, and nothing is to be done. */
export function adviceOn(job: Job): Advice | undefined {
  return adviceOnPause(job) ?? adviceOnState(job) ?? adviceOnPace(job);
}

function adviceOnPause({ pauseReason }: Job): Advice | undefined {
  switch (pauseReason) {
    case PauseReason.NO_SPACE:
      return {
        tone: 'warn',
        title: 'The destination has no space left',
        text: 'The guest goes on undisturbed. Make room and Resume the job, or Abort it.',
      };
    case PauseReason.IO_ERROR:
      return {
        tone: 'warn',
        title: 'Reading or writing failed',
        text: 'Mend the storage and Resume the job, or Abort it.',
      };
    case PauseReason.USER:
      return {
        tone: 'warn',
        title: 'Somebody has paused this job',
        text: 'The guest goes on, and what it writes is left to copy. Resume continues the job.',
      };
    case PauseReason.UNSPECIFIED:
      return undefined;
  }
}

function adviceOnState({ state, kind, outcome, sourcePath, error }: Job): Advice | undefined {
  if (state === Job_State.READY) {
    return {
      tone: 'good',
      title: 'Ready: both sides are equal',
      text: 'Each write of the guest goes to both. Abort with pivot moves the guest there; Abort without it keeps the guest where it is.',
    };
  }
  if (state === Job_State.UNRESOLVED) {
    return {
      tone: 'bad',
      title: 'What happened cannot be proved',
      text: 'Start nothing and delete nothing before you have looked at both images. What is known is below; docs/recovery.md leads through it.',
    };
  }
  if (state !== Job_State.FAILED) return undefined;
  const guest = outcome?.guestWritesTo ?? '';
  const isGone = outcome?.destinationRemoved === true;
  const isCopy = kind === JobKind.COPY;
  const isStale = outcome?.destinationContent === DestinationContent.STALE;
  return {
    tone: 'bad',
    title: 'The job failed',
    text: [
      guest === '' && 'Which image the guest writes to is not known: see the evidence below.',
      guest !== '' && guest === sourcePath && 'The guest goes on where it was, and has lost nothing.',
      isGone && 'The incomplete copy was removed.',
      isCopy && isStale && 'The copy fell behind: do not use it.',
      AFTER[reasonIn(error?.details ?? [])] ?? 'Mend what the error names, and start the job again.',
    ]
      .filter((sentence) => sentence !== false)
      .join(' '),
  };
}

function adviceOnPace({ state, progress }: Job): Advice | undefined {
  if (state !== Job_State.RUNNING || progress?.convergence !== Convergence.DIVERGING) return undefined;
  return {
    tone: 'warn',
    title: 'The guest writes faster than the job copies',
    text: 'It will not become ready like this. Raise its speed (SetSpeed), or start it again with write_mode BLOCKING.',
  };
}
