/** Output for programs: one object per line, with its kind in `type`; messages are in proto's JSON. */
import {
  type BlockJobError,
  Disk,
  Domain,
  errorOfStatus,
  Job,
  JobEvent,
  Leftover,
  type ReclaimResult,
} from '../../client/index.ts';
import type { ExitCode } from '../exit.ts';

type Plain = Readonly<Record<string, unknown>>;

export type Line = Plain & {
  readonly type:
    | 'job'
    | 'foreign'
    | 'event'
    | 'snapshot'
    | 'synced'
    | 'domain'
    | 'disk'
    | 'plan'
    | 'check'
    | 'server'
    | 'leftover'
    | 'reclaimed'
    | 'context'
    | 'result'
    | 'unreachable'
    | 'error';
};

/** An error in words, instead of google.rpc.Status with bytes in it. */
export function jsonOfError(error: BlockJobError): Plain {
  const { code, reason, text, metadata, violations } = error;
  return { code, reason, text, metadata, violations, mayHaveHappened: error.mayHaveHappened };
}

export function jsonOfJob(job: Job): Plain {
  return withError(Job.toJSON(job), job.error);
}

export function jsonOfEvent(event: JobEvent): Plain {
  return { ...(JobEvent.toJSON(event) as Plain), ...(event.job && { job: jsonOfJob(event.job) }) };
}

export function jsonOfDomain(domain: Domain): Plain {
  return withError(Domain.toJSON(domain), domain.error);
}

export function jsonOfDisk(disk: Disk): Plain {
  return { ...(Disk.toJSON(disk) as Plain), ...(disk.job && { job: jsonOfJob(disk.job) }) };
}

export function jsonOfReclaimed({ leftover, reclaimed, error }: ReclaimResult): Plain {
  return withError({ leftover: leftover && Leftover.toJSON(leftover), isReclaimed: reclaimed }, error);
}

/** How a job has ended, or that the command stops waiting: the last line of a command that waits. */
export function resultLine(job: Job | undefined, how: string, exitCode: ExitCode): Line {
  return { type: 'result', how, exitCode, ...(job && { job: jsonOfJob(job) }) };
}

function withError(json: unknown, why: Job['error']): Plain {
  const { error: _, ...rest } = json as Plain;
  return { ...rest, ...(why && { error: jsonOfError(errorOfStatus(why)) }) };
}
