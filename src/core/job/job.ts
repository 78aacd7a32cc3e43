/** A job is the fold of its journal: each entry changes it, by the one table of transitions. */
import type { Failure } from '../errors.ts';
import { type PolicySoFar, policyAfter, policyBefore, REFUSED } from './end-policy.ts';
import { followedAt, type LastFollowed, NOT_FOLLOWED } from './followed.ts';
import {
  type GuestThrottle,
  type NotSlowedDown,
  notSlowedDownAfter,
  throttleAfter,
  throttleAllows,
} from './guest-throttle.ts';
import type { Accepted, EntryBody, EntryOf, Flushed, JournalEntry } from './journal-entry.ts';
import { NEVER_PAUSED, type Pauses, pausesAfter } from './pauses.ts';
import { gateAfter, gateAllows, type PivotGate } from './pivot-gate.ts';
import { type StepState, type Steps, stepsAfter } from './steps.ts';
import { ALLOWED, type JobState, stateAfter } from './transitions.ts';

export type { JobState } from './transitions.ts';

interface AnyJob extends LastFollowed, Pauses, PolicySoFar, Steps {
  readonly accepted: Accepted;
  /** The request id of the call that started it; '' for none. */
  readonly requestId: string;
  readonly revision: number;
  readonly createTime: string;
  /** The time of its last entry. */
  readonly updateTime: string;
  /** When it was begun, on the state folder's clock. Undefined: an older journal. */
  readonly beganMs?: number | undefined;
  readonly ready: EntryOf<'ready'> | undefined;
  /** The last written verdict on its progress, and how many were written. */
  readonly verdict?: EntryOf<'verdict'> | undefined;
  readonly verdicts: number;
  /** Undefined if the guest was never to be slowed down. */
  readonly throttle?: GuestThrottle | undefined;
  readonly notSlowedDown?: readonly NotSlowedDown[] | undefined;
  /** The requested pause or resume; undefined if there is none. */
  readonly intent?: EntryOf<'pivot-requested' | 'cancel-requested' | 'finish-requested'>;
  /** Undefined if it is not open, or the job needs none. */
  readonly gate?: PivotGate | undefined;
  /** Whether a pivot was ever requested: QEMU may have made it at any moment since then. */
  readonly pivotRequested: boolean;
  /** The part of a pull, or of a commit of lower images, that is known to be on stable storage. */
  readonly flushed?: Flushed | undefined;
  /** Why the rest is not. */
  readonly flushFailure?: Failure | undefined;
  /** Whether its clean-up in QEMU is no longer waited for. */
  readonly giveUpRequested: boolean;
  readonly ended: EntryOf<'ended' | 'refused'> | undefined;
}

interface OpenJob extends AnyJob {
  readonly concluded: undefined;
}

/** A job that QEMU has finished, or that was given up. Only the cleaning up remains. */
export interface ConcludedJob extends AnyJob {
  readonly concluded: EntryOf<'concluded'>;
}

export type Job = OpenJob | ConcludedJob;

const ENDED: ReadonlySet<JobState> = new Set(['COMPLETED', 'CANCELLED', 'FAILED', 'UNRESOLVED']);

export function hasEnded({ state }: Pick<Job, 'state'>): boolean {
  return ENDED.has(state);
}

/** A journal with an impossible sequence: damaged, or written by a bug. */
export class IllegalTransition extends Error {
  override readonly name = 'IllegalTransition';
}

/** The one check that a job has concluded; code that cleans up takes a ConcludedJob. */
export function concludedJob(job: Job): ConcludedJob {
  if (job.concluded === undefined) throw new IllegalTransition(`job ${job.accepted.job} has not concluded`);
  return job;
}

/** The job after its first entry. */
export function begin(entry: JournalEntry): Job {
  if (entry.entry !== 'accepted' || (entry.revision !== 1 && entry.recovered === undefined)) {
    throw new IllegalTransition(
      `a journal begins with revision 1, accepted; not with ${entry.revision}, ${entry.entry}`,
    );
  }
  // A journal from a file may be of another version: an older or a newer service wrote it.
  const version: number = entry.version;
  if (version !== 2) throw new IllegalTransition(`a journal of version ${version}, not 2`);
  return {
    accepted: entry,
    requestId: entry.request?.id ?? '',
    state: 'STARTING',
    revision: entry.revision,
    createTime: entry.time,
    updateTime: entry.time,
    beganMs: entry.clock?.ms,
    ready: undefined,
    ...NOT_FOLLOWED,
    verdicts: 0,
    ...NEVER_PAUSED,
    ...policyBefore(entry.options),
    steps: new Map(),
    destinationFile: entry.destination?.file,
    pivotRequested: false,
    concluded: undefined,
    giveUpRequested: false,
    ended: undefined,
  };
}

/** Whether this entry may be written now. This question decides every race between a caller and QEMU. */
export function allows(job: Job, entry: EntryBody): boolean {
  if (!ALLOWED[entry.entry].includes(job.state)) return false;
  if (!gateAllows(job, entry) || !throttleAllows(job, entry)) return false;
  if (entry.entry === 'give-up-requested') return job.concluded !== undefined;
  // Nobody can have seen the end of a job that has not begun: it is undone, or given up.
  if (entry.entry === 'concluded' && job.state === 'STARTING' && entry.how !== 'GIVEN_UP') return false;
  return job.concluded === undefined || !/^(concluded|policy-step|.*-requested)$/.test(entry.entry);
}

/** The job after one more entry. */
export function advance(job: Job, entry: JournalEntry): Job {
  return changed(copyOf(job), entry);
}

/** A job that nobody else has, so that it can be changed in place. */
interface OwnCopy extends AnyJob {
  readonly concluded: Job['concluded'];
  readonly steps: Map<string, StepState>;
}

function copyOf(job: Job): OwnCopy {
  return { ...job, steps: new Map(job.steps) };
}

function changed(job: OwnCopy, entry: JournalEntry): OwnCopy {
  if (entry.revision !== job.revision + 1) {
    throw new IllegalTransition(`revision ${entry.revision} follows ${job.revision}`);
  }
  if (!allows(job, entry)) throw new IllegalTransition(`${entry.entry} while ${job.state}`);
  const state = stateAfter(job.state, entry, job.intent?.entry === 'cancel-requested');
  const [gate, throttle] = [gateAfter(job, entry), throttleAfter(job, entry)];
  const of = { state, gate, throttle, revision: entry.revision, updateTime: entry.time };
  return Object.assign(job, changes(job, entry), of);
}

const NOTHING_WANTED = { wantsPaused: undefined, wantsBandwidth: undefined };

function changes(job: OwnCopy, entry: JournalEntry): Partial<OwnCopy> {
  switch (entry.entry) {
    case 'step-started':
    case 'step-done':
    case 'step-refused':
    case 'step-unknown':
    case 'undo-started':
    case 'undo-done':
    case 'undo-failed':
      return stepsAfter(job, job.steps, entry);
    // The answer to a step was lost, but QEMU runs the job: so nothing failed.
    case 'running':
      return { failure: undefined };
    case 'ready':
      return { ready: entry, pauseReason: undefined, ...followedAt(entry, job) };
    case 'followed':
      return followedAt(entry, job);
    case 'verdict':
      return { verdict: entry, verdicts: job.verdicts + 1 };
    case 'paused':
    case 'resumed':
    case 'space':
    case 'pause-requested':
    case 'resume-requested':
      return pausesAfter(job, entry);
    case 'speed-requested':
    case 'speed':
    case 'policy-step':
    case 'write-mode':
    case 'guest-held':
    case 'guest-released':
      return policyAfter(job, entry);
    case 'pivot-requested':
    case 'cancel-requested':
    case 'finish-requested':
      return {
        intent: entry,
        followedSinceAsked: false,
        // A job that is to end must not be paused before.
        wantsPaused: job.wantsPaused === true ? undefined : job.wantsPaused,
        pausedByClient: false,
        pivotRequested: job.pivotRequested || entry.entry === 'pivot-requested',
      };
    case 'change-refused':
      return REFUSED[entry.change];
    case 'flushed':
      return { flushed: entry.what };
    case 'flush-failed':
      return { flushFailure: entry.failure };
    case 'throttle-not-taken':
      return { notSlowedDown: notSlowedDownAfter(job, entry) };
    case 'give-up-requested':
      return { giveUpRequested: true };
    case 'concluded':
      return { concluded: entry, pauseReason: undefined, ...NOTHING_WANTED };
    case 'refused':
    case 'ended':
      return { ended: entry, failure: entry.failure, ...NOTHING_WANTED };
    case 'accepted':
    case 'asked-again':
    case 'gate-opened':
    case 'config-recorded':
    case 'throttle-requested':
    case 'throttled':
    case 'throttle-lifted':
      return {};
  }
}

/** The job of a whole journal. A service folds thousands of them when it begins: one copy is enough for each. */
export function fold([first, ...rest]: readonly [JournalEntry, ...JournalEntry[]]): Job {
  return rest.reduce(changed, copyOf(begin(first)));
}
