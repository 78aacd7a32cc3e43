/**
 * The facts that are kept in memory of every job, also of one that ended long ago and whose journal is read only on
 * request: they decide about disks and files, and lists are filtered and ordered by them.
 */
import type { JobOptions } from '../job-options.ts';
import { hasMark } from './guest-throttle.ts';
import type { Job } from './job.ts';
import type { Accepted, Concluded } from './journal-entry.ts';
import type { Labelled } from './labels.ts';
import type { Outcome, SafeFile } from './outcome.ts';
import { outcomeOf } from './outcome-of.ts';
import type { StepState } from './steps.ts';

type KnownAccepted = Pick<
  Accepted,
  | 'job'
  | 'kind'
  | 'domain'
  | 'domainUuid'
  | 'process'
  | 'disk'
  | 'qdev'
  | 'committed'
  | 'sourceFile'
  | 'uses'
  | keyof Labelled
> & {
  readonly source: { readonly path: string };
  readonly destination: { readonly path: string } | undefined;
  readonly options: Pick<JobOptions, 'basePath' | 'topPath'>;
};

export interface KnownJob
  extends Pick<Job, 'state' | 'createTime' | 'beganMs' | 'guestHeld' | 'pivotRequested' | 'madeFile' | 'throttle'> {
  readonly accepted: KnownAccepted;
  readonly endTime?: string | undefined;
  /** By the clock of the state folder. Undefined: not yet, or an older journal. */
  readonly endedMs?: number | undefined;
  /** At least those that could not be undone. */
  readonly steps: ReadonlyMap<string, StepState>;
  readonly concluded: Pick<Concluded, 'how' | 'devicePath'> | undefined;
  readonly outcome: Pick<Outcome, 'guestWritesTo' | 'destinationContent' | 'destinationRemoved'> & {
    readonly safeToDelete: readonly Pick<SafeFile, 'path'>[];
  };
}

/** The same for all jobs: a map of its own has 200 bytes. */
const NO_STEPS: KnownJob['steps'] = new Map();

/** The job without everything else. */
export function knownOf(job: Job): KnownJob {
  const { accepted, state, createTime, beganMs, guestHeld, pivotRequested, madeFile, concluded, ended } = job;
  const outcome = outcomeOf(job);
  const { sourceFile, uses, labels, createdBy, destination } = accepted;
  const left = [...job.steps].filter(([, step]) => step === 'UNDO_FAILED');
  return {
    accepted: {
      job: accepted.job,
      kind: accepted.kind,
      domain: accepted.domain,
      domainUuid: accepted.domainUuid,
      process: accepted.process,
      disk: accepted.disk,
      qdev: accepted.qdev,
      committed: accepted.committed,
      ...(sourceFile && { sourceFile }),
      ...(uses && { uses }),
      ...(labels && { labels }),
      ...(createdBy !== undefined && { createdBy }),
      source: { path: accepted.source.path },
      destination: destination && { path: destination.path },
      options: { basePath: accepted.options.basePath, topPath: accepted.options.topPath },
    },
    state,
    createTime,
    endTime: ended?.time,
    beganMs,
    endedMs: ended?.clock?.ms,
    guestHeld,
    pivotRequested,
    madeFile,
    ...(hasMark(job) && { throttle: job.throttle }),
    steps: left.length === 0 ? NO_STEPS : new Map(left),
    concluded: concluded && { how: concluded.how, devicePath: concluded.devicePath },
    outcome: {
      guestWritesTo: outcome.guestWritesTo,
      destinationContent: outcome.destinationContent,
      destinationRemoved: outcome.destinationRemoved,
      safeToDelete: outcome.safeToDelete.map(({ path }) => ({ path })),
    },
  };
}

interface Aged {
  readonly job: Pick<KnownJob, 'beganMs' | 'createTime'>;
}

/**
 * The oldest first, because a later job is believed about a file. If two jobs have a time on the clock of the state folder
 * (`beganMs`), it decides: the clock of the host may have gone back. A job without one was begun by a version that does
 * not write it: before there was one, or after a downgrade. The clock of the host alone gives its position among the
 * others.
 */
export function oldestFirst<T extends Aged>(jobs: readonly T[]): readonly T[] {
  const stamped = jobs
    .filter(({ job }) => job.beganMs !== undefined)
    .toSorted((a, b) => (a.job.beganMs ?? 0) - (b.job.beganMs ?? 0) || byHostClock(a, b));
  const plain = jobs.filter(({ job }) => job.beganMs === undefined).toSorted(byHostClock);
  const ordered: T[] = [];
  let next = 0;
  for (const one of stamped) {
    for (let older = plain[next]; older !== undefined && byHostClock(older, one) < 0; older = plain[next]) {
      ordered.push(older);
      next += 1;
    }
    ordered.push(one);
  }
  return [...ordered, ...plain.slice(next)];
}

function byHostClock(a: Aged, b: Aged): number {
  return a.job.createTime.localeCompare(b.job.createTime);
}
