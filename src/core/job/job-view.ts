/** A job as its callers see it: everything except how it is done. A gateway knows no more of it than callers do. */
import type { Destination, Encryption } from '../destination.ts';
import type { ImageFormat } from '../job-options.ts';
import { isSlowedDown } from './guest-throttle.ts';
import { hasEnded, type Job } from './job.ts';
import type { Accepted, EntryOf } from './journal-entry.ts';
import type { Labelled } from './labels.ts';
import type { Outcome } from './outcome.ts';
import { outcomeOf } from './outcome-of.ts';
import type { PivotGate } from './pivot-gate.ts';
import type { PolicyStep } from './policy-step.ts';
import type { Progress } from './progress.ts';
import { type JobSpace, spaceOf } from './space.ts';

type AcceptedFacts = Pick<
  Accepted,
  'job' | 'kind' | 'host' | 'domain' | 'domainUuid' | 'disk' | 'options' | keyof Labelled
>;

/** The accepted job, or the job that a plan would have. Each `Accepted` is one. */
export interface PublicAccepted extends AcceptedFacts {
  readonly source: { readonly path: string };
  readonly destination:
    | {
        readonly target: Destination | undefined;
        readonly format: ImageFormat;
        readonly encryption?: Encryption;
      }
    | undefined;
}

type JobFacts = Pick<
  Job,
  'requestId' | 'state' | 'revision' | 'createTime' | 'pauseReason' | 'bandwidthBytesPerSecond' | 'failure'
>;

export interface ShownGate extends PivotGate {
  /** The path that the configuration of the VM has to name before the pivot. */
  readonly nextStartPath: string;
}

/** A step of the end policy. */
export type ShownStep = Omit<PolicyStep, 'entry'> & Pick<EntryOf<'policy-step'>, 'revision' | 'time'>;

/** The limit on the guest's writes that is in force. */
export interface ShownThrottle {
  readonly limitBytesPerSecond: number;
  /** RFC 3339. */
  readonly since: string;
  readonly group: string;
}

export interface PublicJob extends JobFacts {
  readonly accepted: PublicAccepted;
  readonly readyTime?: string | undefined;
  readonly endTime?: string | undefined;
  readonly pivotGate?: ShownGate | undefined;
  readonly outcome: Outcome;
  readonly space?: JobSpace | undefined;
  readonly policySteps?: readonly ShownStep[];
  readonly guestThrottle?: ShownThrottle | undefined;
}

export function publicJob(job: Job): PublicJob {
  const { ready, ended, gate } = job;
  const nextStartPath = job.accepted.destination?.path ?? '';
  const pivotGate = gate && { ...gate, nextStartPath };
  return {
    ...job,
    space: spaceOf(job),
    guestThrottle: throttleOf(job),
    readyTime: ready?.time,
    endTime: ended?.time,
    pivotGate,
    outcome: outcomeOf(job),
  };
}

/** A limit that an ended job could not lift is a leftover. */
function throttleOf(job: Job): ShownThrottle | undefined {
  const { throttle, accepted } = job;
  if (throttle === undefined || !isSlowedDown(job) || hasEnded(job)) return undefined;
  return { limitBytesPerSecond: throttle.limits.at(-1) ?? 0, since: throttle.since, group: accepted.job };
}

/** By its time: a newer service may have other states. */
export function isOver({ endTime }: Pick<PublicJob, 'endTime'>): boolean {
  return endTime !== undefined;
}

/** A job and its progress. */
export interface JobView {
  readonly job: PublicJob;
  readonly progress: Progress | undefined;
}
