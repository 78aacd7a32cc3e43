/** Core types → messages: requests to a remote service, in the words of the original caller. */
import {
  type AbortRequest as AbortMessage,
  CommitFlag,
  type CommitRequest as CommitMessage,
  type ListJobsRequest as ListJobsMessage,
  RebaseFlag,
  type RebaseRequest as RebaseMessage,
  type StartCopyRequest,
  type WatchJobRequest,
} from '../../../generated/blockjob/v1/block_job_service.ts';
import {
  type CheckOperationRequest as CheckOperationMessage,
  Operation,
} from '../../../generated/blockjob/v1/domain_service.ts';
import {
  Accept,
  ConfigOwner,
  type Destination as DestinationMessage,
  ImageFormat,
  Job_State,
  type JobRef as JobRefMessage,
  type NbdDestination,
  OnNoSpace,
  OnReady,
  PauseGuest,
  WriteMode,
} from '../../../generated/blockjob/v1/job.ts';
import type { Requests } from '../../core/block-jobs.ts';
import type { AskedDestination, JobRef, StartRequest } from '../../core/requests.ts';
import { durationOf } from '../durations.ts';
import { fromAskedPolicy } from '../end-policies.ts';
import { numberOf } from '../enums.ts';

export function fromCopyRequest(asked: Requests['startCopy']): StartCopyRequest {
  const { destination, format, encryption, timeLimitMs, endPolicy, ...request } = asked;
  return {
    ...request,
    labels: { ...request.labels },
    destination: fromDestination(destination, { format, encryption }),
    writeMode: numberOf(WriteMode, 'WRITE_MODE', request.writeMode),
    onReady: numberOf(OnReady, 'ON_READY', request.onReady),
    onNoSpace: numberOf(OnNoSpace, 'ON_NO_SPACE', request.onNoSpace),
    pauseGuest: numberOf(PauseGuest, 'PAUSE_GUEST', request.pauseGuest),
    configOwner: fromConfigOwner(request),
    accept: fromAccept(request.accept),
    timeLimit: durationOf(timeLimitMs),
    endPolicy: endPolicy && fromAskedPolicy(endPolicy),
  };
}

export function fromRebaseRequest({ flags, accept, ...request }: Requests['rebase']): RebaseMessage {
  return {
    ...request,
    labels: { ...request.labels },
    accept: fromAccept(accept),
    configOwner: fromConfigOwner(request),
    flags: flags.map((flag) => numberOf(RebaseFlag, 'REBASE_FLAG', flag)),
  };
}

export function fromCommitRequest({ flags, accept, ...request }: Requests['commit']): CommitMessage {
  return {
    ...request,
    labels: { ...request.labels },
    accept: fromAccept(accept),
    configOwner: fromConfigOwner(request),
    flags: flags.map((flag) => numberOf(CommitFlag, 'COMMIT_FLAG', flag)),
  };
}

function fromAccept(accept: StartRequest['accept']): Accept[] {
  return accept.map((one) => numberOf(Accept, 'ACCEPT', one));
}

function fromConfigOwner({ configOwner }: Pick<StartRequest, 'configOwner'>): ConfigOwner {
  return numberOf(ConfigOwner, 'CONFIG_OWNER', configOwner);
}

export function fromAbortRequest({
  job,
  pauseGuest,
  record,
  recordOnly = false,
  ...request
}: Requests['abort']): AbortMessage {
  return {
    ...request,
    record,
    recordOnly,
    job: fromJobRef(job),
    pauseGuest: numberOf(PauseGuest, 'PAUSE_GUEST', pauseGuest),
  };
}

/** SetSpeed, Pause, and Resume. */
export function fromChangeRequest<Request extends Requests['pause']>({ job, ...request }: Request) {
  return { ...request, job: fromJobRef(job) };
}

export function fromListJobsRequest({ states, labels, createdBy, ...request }: Requests['listJobs']): ListJobsMessage {
  return {
    ...request,
    labelFilter: { ...labels },
    createdByFilter: createdBy ?? '',
    stateFilter: states.map((state) => numberOf(Job_State, 'STATE', state)),
  };
}

export function fromCheckOperationRequest({
  operation,
  ...request
}: Requests['checkOperation']): CheckOperationMessage {
  return { ...request, operation: numberOf(Operation, 'OPERATION', operation) };
}

export function fromWatchRequest({ job, afterRevision, progressIntervalMs }: Requests['watch']): WatchJobRequest {
  return {
    job: fromJobRef(job),
    afterRevision: afterRevision === undefined ? undefined : BigInt(afterRevision),
    progressInterval: durationOf(progressIntervalMs),
  };
}

export function fromJobRef(ref: JobRef): JobRefMessage {
  return {
    name: 'jobId' in ref ? { $case: 'jobId', value: ref.jobId } : { $case: 'disk', value: ref.disk },
  };
}

function fromDestination(
  destination: AskedDestination | undefined,
  asked: Pick<Requests['startCopy'], 'format' | 'encryption'>,
): DestinationMessage | undefined {
  const { encryption } = asked;
  const format: ImageFormat = numberOf(ImageFormat, 'IMAGE_FORMAT', asked.format);
  const target = destination && fromTarget(destination);
  if (target === undefined && format === 0 && encryption === undefined) return undefined;
  return { target, format, encryption };
}

function fromTarget(destination: AskedDestination): NonNullable<DestinationMessage['target']> {
  switch (destination.kind) {
    case 'file':
      return { $case: 'file', value: destination.path };
    case 'block-device':
      return { $case: 'blockDevice', value: destination.path };
    case 'nbd':
      return { $case: 'nbd', value: fromNbd(destination.nbd) };
  }
}

function fromNbd({ server, ...more }: Extract<AskedDestination, { kind: 'nbd' }>['nbd']): NbdDestination {
  switch (server?.kind) {
    case 'tcp':
      return { ...more, server: { $case: 'tcp', value: { host: server.host, port: server.port } } };
    case 'unix':
      return { ...more, server: { $case: 'unixSocket', value: server.path } };
    case undefined:
      return { ...more, server: undefined };
  }
}
