/** Messages → core types. The core gets an unknown enum value of a newer client as it is. */
import {
  type AbortRequest as AbortMessage,
  CommitFlag,
  type CommitRequest as CommitMessage,
  type ListJobsRequest as ListJobsMessage,
  type PauseRequest as PauseMessage,
  RebaseFlag,
  type RebaseRequest as RebaseMessage,
  type StartCopyRequest,
  type WatchJobRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import {
  type CheckOperationRequest as CheckOperationMessage,
  Operation,
} from '../../generated/blockjob/v1/domain_service.ts';
import {
  Accept,
  ConfigOwner,
  type Destination as DestinationMessage,
  type DiskRef as DiskRefMessage,
  ImageFormat,
  Job_State,
  type JobRef as JobRefMessage,
  type NbdDestination,
  OnNoSpace,
  OnReady,
  PauseGuest,
  WriteMode,
} from '../../generated/blockjob/v1/job.ts';
import type { Requests } from '../core/block-jobs.ts';
import { type Destination, NBD_PORT } from '../core/destination.ts';
import type { AskedDestination, DiskRef, JobRef } from '../core/requests.ts';
import { invalid, required, throwIfAny } from '../core/rules/rule.ts';
import { toMs } from './durations.ts';
import { toAskedPolicy } from './end-policies.ts';
import { fromEnum } from './enums.ts';

export function toCopyRequest({
  destination,
  timeLimit,
  endPolicy,
  ...request
}: StartCopyRequest): Requests['startCopy'] {
  return {
    ...request,
    disk: toDiskRef(request.disk),
    destination: toAskedDestination(destination),
    format: fromEnum(ImageFormat, 'IMAGE_FORMAT', destination?.format ?? 0),
    encryption: destination?.encryption,
    writeMode: fromEnum(WriteMode, 'WRITE_MODE', request.writeMode),
    onReady: fromEnum(OnReady, 'ON_READY', request.onReady),
    onNoSpace: fromEnum(OnNoSpace, 'ON_NO_SPACE', request.onNoSpace),
    pauseGuest: fromEnum(PauseGuest, 'PAUSE_GUEST', request.pauseGuest),
    configOwner: toConfigOwner(request),
    timeLimitMs: toMs(timeLimit),
    ...(endPolicy && { endPolicy: toAskedPolicy(endPolicy) }),
    accept: toAccept(request.accept),
  };
}

export function toRebaseRequest({ flags, ...request }: RebaseMessage): Requests['rebase'] {
  return {
    ...request,
    disk: toDiskRef(request.disk),
    flags: flags.map((flag) => fromEnum(RebaseFlag, 'REBASE_FLAG', flag)),
    configOwner: toConfigOwner(request),
    accept: toAccept(request.accept),
  };
}

export function toCommitRequest({ flags, ...request }: CommitMessage): Requests['commit'] {
  return {
    ...request,
    disk: toDiskRef(request.disk),
    flags: flags.map((flag) => fromEnum(CommitFlag, 'COMMIT_FLAG', flag)),
    configOwner: toConfigOwner(request),
    accept: toAccept(request.accept),
  };
}

export function toAbortRequest({ job, pauseGuest, ...request }: AbortMessage): Requests['abort'] {
  return { ...request, job: toJobRef(job), pauseGuest: fromEnum(PauseGuest, 'PAUSE_GUEST', pauseGuest) };
}

/** SetSpeed, Pause, and Resume. */
export function toChangeRequest<Message extends PauseMessage>({ job, ...request }: Message) {
  return { ...request, job: toJobRef(job) };
}

export function toListJobsRequest(message: ListJobsMessage): Requests['listJobs'] {
  const { labelFilter: labels, createdByFilter: createdBy, stateFilter, ...request } = message;
  return { ...request, labels, createdBy, states: stateFilter.map((state) => fromEnum(Job_State, 'STATE', state)) };
}

export function toCheckOperationRequest(message: CheckOperationMessage): Requests['checkOperation'] {
  const operation = fromEnum(Operation, 'OPERATION', message.operation);
  return { domain: message.domain, disk: message.disk, operation };
}

export function toWatchRequest({ job, afterRevision, progressInterval }: WatchJobRequest): Requests['watch'] {
  throwIfAny(afterRevision !== undefined && afterRevision < 0n ? [invalid('after_revision', 'is negative')] : []);
  return {
    job: toJobRef(job),
    // A revision above 2^53 is above that of any job: it is refused as unknown, whatever its last digits are.
    afterRevision: afterRevision === undefined ? undefined : Number(afterRevision),
    progressIntervalMs: toMs(progressInterval),
  };
}

/** Throws for a reference without a job. */
export function toJobRef(message: JobRefMessage | undefined): JobRef {
  if (message?.name?.$case === 'disk') {
    const disk = toDiskRef(message.name.value);
    throwIfAny([
      ...required('job.disk.domain', disk.domain, 'the name or UUID of a running domain'),
      ...required('job.disk.disk', disk.disk, 'a disk of the domain'),
    ]);
    return { disk };
  }
  const jobId = message?.name?.value ?? '';
  throwIfAny(jobId === '' ? [invalid('job', 'is missing; give job.job_id, or job.disk')] : []);
  return { jobId };
}

function toDiskRef(message: DiskRefMessage | undefined): DiskRef {
  return { domain: message?.domain ?? '', disk: message?.disk ?? '' };
}

function toAskedDestination(message: DestinationMessage | undefined): AskedDestination | undefined {
  const target = message?.target;
  return target?.$case === 'nbd' ? { kind: 'nbd', nbd: toNbd(target.value) } : toTarget(message);
}

/** Undefined if there is none, and for an NBD export without a server. */
export function toTarget(message: DestinationMessage | undefined): Destination | undefined {
  switch (message?.target?.$case) {
    case 'file':
      return { kind: 'file', path: message.target.value };
    case 'blockDevice':
      return { kind: 'block-device', path: message.target.value };
    case 'nbd': {
      const { server, ...nbd } = toNbd(message.target.value);
      return server === undefined ? undefined : { kind: 'nbd', nbd: { server, ...nbd } };
    }
    case undefined:
      return undefined;
  }
}

function toNbd({ server, exportName, tlsCredentialsId, tlsHostname }: NbdDestination) {
  const more = { exportName, tlsCredentialsId, tlsHostname };
  switch (server?.$case) {
    case 'tcp': {
      const { host, port } = server.value;
      return { server: { kind: 'tcp', host, port: port === 0 ? NBD_PORT : port }, ...more } as const;
    }
    case 'unixSocket':
      return { server: { kind: 'unix', path: server.value }, ...more } as const;
    case undefined:
      return { server: undefined, ...more };
  }
}

function toAccept(values: readonly Accept[]) {
  return values.map((value) => fromEnum(Accept, 'ACCEPT', value));
}

function toConfigOwner({ configOwner }: Pick<StartCopyRequest, 'configOwner'>) {
  return fromEnum(ConfigOwner, 'CONFIG_OWNER', configOwner);
}
