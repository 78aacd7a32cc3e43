/** The steps of a job's plan: their progress, and what follows from it. */
import type { Failure } from '../errors.ts';
import type { EntryOf } from './journal-entry.ts';
import type { KnownFile, MadeFile } from './step.ts';
import type { JobState } from './transitions.ts';

/** The step that syncs the data of a copy or an active commit. */
export const SYNC_STEP = 'sync-destination';

/** A step of the plan and its progress. */
export type StepState = 'STARTED' | 'DONE' | 'REFUSED' | 'UNKNOWN' | 'UNDONE' | 'UNDO_FAILED';

/** Whether a step of the clean-up must not be repeated. */
export function isStepOver(step: StepState | undefined): boolean {
  return step === 'DONE' || step === 'REFUSED';
}

export interface Steps {
  readonly state: JobState;
  readonly steps: ReadonlyMap<string, StepState>;
  readonly madeFile?: MadeFile | undefined;
  /** The written file, as QEMU has it open. Undefined if it is not on this host, or not known, as in older journals. */
  readonly destinationFile?: KnownFile | undefined;
  /** Why the data of a copy or an active commit is not known to be on stable storage, at its name. */
  readonly syncFailure?: Failure | undefined;
  readonly failure?: Failure | undefined;
}

type StepEntry = EntryOf<
  'step-started' | 'step-done' | 'step-refused' | 'step-unknown' | 'undo-started' | 'undo-done' | 'undo-failed'
>;

/** `steps`: a map that nobody else has. */
export function stepsAfter(
  job: Steps,
  steps: Map<string, StepState>,
  entry: StepEntry,
): Partial<Omit<Steps, 'steps'>> & { readonly steps?: Map<string, StepState> } {
  switch (entry.entry) {
    case 'step-started':
      return { steps: steps.set(entry.step, 'STARTED') };
    case 'step-done':
      return {
        steps: steps.set(entry.step, 'DONE'),
        madeFile: entry.made ?? job.madeFile,
        destinationFile: entry.proved ?? job.destinationFile,
      };
    case 'step-refused':
      return {
        steps: steps.set(entry.step, 'REFUSED'),
        failure: startFailure(job, entry.failure),
        syncFailure: entry.step === SYNC_STEP ? entry.failure : job.syncFailure,
      };
    case 'step-unknown':
      return { steps: steps.set(entry.step, 'UNKNOWN'), failure: startFailure(job, entry.failure) };
    case 'undo-started':
      return { failure: startFailure(job, entry.failure) };
    case 'undo-done':
      return { steps: steps.set(entry.step, 'UNDONE') };
    case 'undo-failed':
      return { steps: steps.set(entry.step, 'UNDO_FAILED') };
  }
}

/** A step that fails at the start fails the job; one that fails in the clean-up leaves a leftover. */
function startFailure(job: Steps, why: Failure): Failure | undefined {
  return job.failure ?? (job.state === 'STARTING' ? why : undefined);
}
