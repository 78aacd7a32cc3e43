/** A job as its callers see it: all but how it is done. A gateway knows no more of it than they. */
import type { Destination, Encryption } from '../destination.ts';
import type { ImageFormat } from '../job-options.ts';
import type { Job } from './job.ts';
import type { Accepted } from './journal-entry.ts';
import type { Outcome } from './outcome.ts';
import { outcomeOf } from './outcome-of.ts';
import type { Progress } from './progress.ts';

type AcceptedFacts = Pick<Accepted, 'job' | 'kind' | 'host' | 'domain' | 'domainUuid' | 'disk' | 'options'>;

/** What was accepted, or what a plan would have accepted. Each `Accepted` is one. */
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

export interface PublicJob extends JobFacts {
  readonly accepted: PublicAccepted;
  readonly readyTime?: string | undefined;
  readonly endTime?: string | undefined;
  readonly outcome: Outcome;
}

export function publicJob(job: Job): PublicJob {
  return { ...job, readyTime: job.ready?.time, endTime: job.ended?.time, outcome: outcomeOf(job) };
}

/** A job and how far it is. */
export interface JobView {
  readonly job: PublicJob;
  readonly progress: Progress | undefined;
}
