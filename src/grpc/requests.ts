/** Messages → core types. What a message cannot say plainly (an enum value of tomorrow) the core is told as it is. */
import type {
  AbortRequest as AbortMessage,
  ListJobsRequest as ListJobsMessage,
  PauseRequest as PauseMessage,
  ResumeRequest as ResumeMessage,
  SetSpeedRequest as SetSpeedMessage,
  StartCopyRequest,
  WatchJobRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import {
  type CheckOperationRequest as CheckOperationMessage,
  Operation,
} from '../../generated/blockjob/v1/domain_service.ts';
import {
  type Destination as DestinationMessage,
  type DiskRef as DiskRefMessage,
  ImageFormat,
  Job_State,
  type JobRef as JobRefMessage,
  OnNoSpace,
  OnReady,
  PauseGuest,
  WriteMode,
} from '../../generated/blockjob/v1/job.ts';
import type { Duration } from '../../generated/google/protobuf/duration.ts';
import type {
  AbortRequest,
  CheckOperationRequest,
  CopyRequest,
  Destination,
  DiskRef,
  JobRef,
  ListJobsRequest,
  PauseRequest,
  SetSpeedRequest,
  WatchRequest,
} from '../core/block-jobs.ts';
import type { Job } from '../core/job.ts';
import { invalid, required, throwIfAny } from '../core/rules/rule.ts';
import { fromEnum } from './enums.ts';

const STATES = [
  'STARTING',
  'RUNNING',
  'READY',
  'PIVOTING',
  'CANCELLING',
  'COMPLETED',
  'CANCELLED',
  'FAILED',
  'UNRESOLVED',
] as const satisfies readonly Job['state'][];

export function toCopyRequest(message: StartCopyRequest): CopyRequest {
  return {
    disk: toDiskRef(message.disk),
    destination: toDestination(message.destination),
    format: fromEnum(ImageFormat, 'IMAGE_FORMAT', ['RAW', 'QCOW2'], message.destination?.format ?? 0),
    shallow: message.shallow,
    reuseExternal: message.reuseExternal,
    relativeBacking: message.relativeBacking,
    bandwidthBytesPerSecond: message.bandwidthBytesPerSecond,
    granularityBytes: message.granularityBytes,
    bufferBytes: message.bufferBytes,
    writeMode: fromEnum(WriteMode, 'WRITE_MODE', ['BACKGROUND', 'BLOCKING'], message.writeMode),
    onReady: fromEnum(OnReady, 'ON_READY', ['HOLD', 'PIVOT', 'FINISH'], message.onReady),
    onNoSpace: fromEnum(OnNoSpace, 'ON_NO_SPACE', ['PAUSE', 'FAIL'], message.onNoSpace),
    pauseGuest: toPauseGuest(message.pauseGuest),
    timeLimitMs: toMs(message.timeLimit),
    requestId: message.requestId,
    validateOnly: message.validateOnly,
    planEtag: message.planEtag,
  };
}

export function toAbortRequest(message: AbortMessage): AbortRequest {
  return {
    job: toJobRef(message.job),
    pivot: message.pivot,
    async: message.async,
    force: message.force,
    pauseGuest: toPauseGuest(message.pauseGuest),
    requestId: message.requestId,
  };
}

export function toSetSpeedRequest(message: SetSpeedMessage): SetSpeedRequest {
  const { bandwidthBytesPerSecond, requestId } = message;
  return { job: toJobRef(message.job), bandwidthBytesPerSecond, requestId };
}

export function toPauseRequest(message: PauseMessage | ResumeMessage): PauseRequest {
  return { job: toJobRef(message.job), requestId: message.requestId };
}

export function toListJobsRequest(message: ListJobsMessage): ListJobsRequest {
  return {
    domain: message.domain,
    states: message.stateFilter.map((state) => fromEnum(Job_State, 'STATE', STATES, state)),
    pageSize: message.pageSize,
    pageToken: message.pageToken,
  };
}

const OPERATIONS = ['SAVE', 'SNAPSHOT', 'REVERT', 'DETACH', 'RESIZE', 'MIGRATE'] as const;

export function toCheckOperationRequest(message: CheckOperationMessage): CheckOperationRequest {
  const operation = fromEnum(Operation, 'OPERATION', OPERATIONS, message.operation);
  return { domain: message.domain, disk: message.disk, operation };
}

export function toWatchRequest(message: WatchJobRequest): WatchRequest {
  return {
    job: toJobRef(message.job),
    // A revision above 2^53 is above any job's: it is refused as unknown, whatever its last digits.
    afterRevision: message.afterRevision === undefined ? undefined : Number(message.afterRevision),
    progressIntervalMs: toMs(message.progressInterval),
  };
}

/** Throws for a reference that names nothing. */
export function toJobRef(message: JobRefMessage | undefined): JobRef {
  if (message?.ref?.$case === 'disk') {
    const disk = toDiskRef(message.ref.value);
    throwIfAny([
      ...required('job.disk.domain', disk.domain, 'the name or UUID of a running domain'),
      ...required('job.disk.disk', disk.disk, 'a disk of the domain'),
    ]);
    return { disk };
  }
  const jobId = message?.ref?.value ?? '';
  throwIfAny(jobId === '' ? [invalid('job', 'is missing; give job.job_id, or job.disk')] : []);
  return { jobId };
}

function toDiskRef(message: DiskRefMessage | undefined): DiskRef {
  return { domain: message?.domain ?? '', disk: message?.disk ?? '' };
}

function toDestination(message: DestinationMessage | undefined): Destination | undefined {
  switch (message?.target?.$case) {
    case 'file':
      return { kind: 'file', path: message.target.value };
    case 'blockDevice':
      return { kind: 'block-device', path: message.target.value };
    case 'nbd':
      return { kind: 'nbd' };
    case undefined:
      return undefined;
  }
}

function toPauseGuest(value: PauseGuest) {
  return fromEnum(PauseGuest, 'PAUSE_GUEST', ['AUTO', 'ALWAYS', 'NEVER'], value);
}

function toMs(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
