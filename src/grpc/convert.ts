/** Messages ↔ core types. What a message cannot say plainly (an enum value of tomorrow) the core is told as it is. */
import {
  type AbortRequest as AbortMessage,
  type ListJobsRequest as ListJobsMessage,
  type StartCopyRequest,
  type WatchJobRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import {
  type Disk as DiskMessage,
  type Domain as DomainMessage,
  GuestState,
} from '../../generated/blockjob/v1/domain_service.ts';
import {
  Convergence,
  DestinationContent,
  type Destination as DestinationMessage,
  type DiskRef as DiskRefMessage,
  Evidence_Source,
  ImageFormat,
  Job_State,
  JobEvent_Type,
  type JobEvent as JobEventMessage,
  JobKind,
  type Job as JobMessage,
  type JobOptions,
  type JobRef as JobRefMessage,
  OnNoSpace,
  OnReady,
  type Outcome as OutcomeMessage,
  PauseGuest,
  PauseReason,
  type Progress as ProgressMessage,
  WriteMode,
} from '../../generated/blockjob/v1/job.ts';
import type { Duration } from '../../generated/google/protobuf/duration.ts';
import type {
  AbortRequest,
  CopyRequest,
  Destination,
  DiskRef,
  Domain,
  DomainDisk,
  Given,
  JobEvent,
  JobRef,
  JobView,
  ListJobsRequest,
  WatchRequest,
} from '../core/block-jobs.ts';
import type { Failure } from '../core/errors.ts';
import type { Job } from '../core/job.ts';
import type { Outcome } from '../core/outcome.ts';
import type { Progress } from '../core/progress.ts';
import { invalid, required, throwIfAny } from '../core/rules/rule.ts';
import { statusOf } from './status.ts';

// Requests: message → core

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

export function toListJobsRequest(message: ListJobsMessage): ListJobsRequest {
  return {
    domain: message.domain,
    states: message.stateFilter.map((state) => fromEnum(Job_State, 'STATE', STATES, state)),
    pageSize: message.pageSize,
    pageToken: message.pageToken,
  };
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

/** Unspecified is undefined; a number that no name has is told as such. */
function fromEnum<Prefix extends string, Name extends string>(
  values: Readonly<Record<`${Prefix}_${Name}`, number>>,
  prefix: Prefix,
  names: readonly Name[],
  value: number,
): Given<Name> {
  if (value === 0) return undefined;
  return names.find((name) => values[`${prefix}_${name}`] === value) ?? { unrecognized: value };
}

function toEnum<Prefix extends string, Name extends string, Value>(
  values: Readonly<Record<`${Prefix}_${Name}`, Value>>,
  prefix: Prefix,
  name: Name,
): Value {
  return values[`${prefix}_${name}`];
}

// Answers: core → message

export function fromJobView({ job, progress }: JobView): JobMessage {
  const { accepted } = job;
  return {
    id: accepted.job,
    disk: { domain: accepted.domain, disk: accepted.disk },
    domainUuid: accepted.domainUuid ?? '',
    host: accepted.host,
    kind: toEnum(JobKind, 'JOB_KIND', accepted.kind),
    state: toEnum(Job_State, 'STATE', job.state),
    pauseReason: job.pauseReason === undefined ? 0 : toEnum(PauseReason, 'PAUSE_REASON', job.pauseReason),
    progress: progress && fromProgress(progress),
    bandwidthBytesPerSecond: BigInt(accepted.options.bandwidthBytesPerSecond),
    destination: {
      target: { $case: 'file', value: accepted.destination.path },
      format: toEnum(ImageFormat, 'IMAGE_FORMAT', accepted.options.format),
    },
    sourcePath: accepted.source.path,
    options: fromOptions(job),
    error: job.failure && statusOf(job.failure),
    outcome: fromOutcome(job.outcome),
    revision: BigInt(job.revision),
    createTime: new Date(job.createTime),
    readyTime: date(job.readyTime),
    endTime: date(job.endTime),
    requestId: '',
  };
}

function fromOptions({ accepted: { options } }: Job): JobOptions {
  return {
    shallow: false,
    reuseExternal: false,
    relativeBacking: false,
    granularityBytes: BigInt(options.granularityBytes ?? 0),
    bufferBytes: BigInt(options.bufferBytes),
    writeMode: WriteMode.WRITE_MODE_BACKGROUND,
    onReady: toEnum(OnReady, 'ON_READY', options.onReady),
    onNoSpace: toEnum(OnNoSpace, 'ON_NO_SPACE', options.onNoSpace),
    timeLimit: undefined,
    pauseGuest: toEnum(PauseGuest, 'PAUSE_GUEST', options.pauseGuest),
    basePath: '',
    topPath: '',
    deleteCommitted: false,
  };
}

function fromProgress(progress: Progress): ProgressMessage {
  return {
    currentBytes: BigInt(progress.currentBytes),
    endBytes: BigInt(progress.endBytes),
    percent: progress.percent,
    remainingBytes: BigInt(progress.remainingBytes),
    bytesPerSecond: BigInt(progress.bytesPerSecond),
    dirtyBytesPerSecond: BigInt(progress.dirtyBytesPerSecond),
    eta: progress.etaMs === undefined ? undefined : fromMs(progress.etaMs),
    convergence: toEnum(Convergence, 'CONVERGENCE', progress.convergence),
    sampleTime: date(progress.sampleTime),
  };
}

function fromMs(ms: number): Duration {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 };
}

function fromOutcome(outcome: Outcome): OutcomeMessage {
  return {
    guestWritesTo: outcome.guestWritesTo ?? '',
    destinationContent: toEnum(DestinationContent, 'DESTINATION_CONTENT', outcome.destinationContent),
    asOf: date(outcome.asOf),
    safeToDelete: [...outcome.safeToDelete],
    evidence: outcome.evidence.map((one) => ({
      source: toEnum(Evidence_Source, 'SOURCE', one.source),
      text: one.text,
      revision: BigInt(one.revision),
    })),
    destinationRemoved: outcome.destinationRemoved,
    nextStartPath: outcome.guestWritesTo ?? '',
  };
}

export function fromJobEvent(event: JobEvent): JobEventMessage {
  return {
    revision: BigInt(event.job.revision),
    time: new Date(event.time),
    type: toEnum(JobEvent_Type, 'TYPE', event.type),
    job: fromJobView(event),
    detail: event.detail,
    oldestRevision: 1n,
  };
}

export function fromDomain(domain: Domain, disks: readonly DomainDisk[] = []): DomainMessage {
  const { connection } = domain;
  const up = connection.up ? connection : undefined;
  const why: Failure | undefined = connection.up ? undefined : connection.why;
  return {
    name: domain.name,
    uuid: domain.uuid ?? '',
    host: domain.host,
    guestState: up?.guestState === undefined ? 0 : toEnum(GuestState, 'GUEST_STATE', up.guestState),
    qemuVersion: up?.qemuVersion ?? '',
    qemuPid: up?.qemuPid ?? 0,
    disks: disks.map(fromDisk),
    error: why && statusOf(why),
  };
}

function fromDisk({ disk, deviceType, activeJob }: DomainDisk): DiskMessage {
  const [top] = disk.chain;
  return {
    qdevId: disk.id,
    blockBackend: disk.backend,
    nodeName: top?.node ?? '',
    path: top?.path ?? '',
    name: disk.id,
    deviceModel: deviceType ?? '',
    virtualSizeBytes: BigInt(top?.virtualSizeBytes ?? 0),
    readOnly: top?.readOnly ?? false,
    chain: disk.chain.map((image, index) => ({
      index,
      path: image.path,
      nodeName: image.node,
      storageNodeName: image.storage?.node ?? '',
      format: image.format,
      storage: image.storage?.driver ?? '',
      virtualSizeBytes: BigInt(image.virtualSizeBytes),
      allocatedBytes: BigInt(image.allocatedBytes),
      backingFile: image.backingFile,
      backingFormat: image.backingFormat,
      readOnly: image.readOnly,
      encrypted: image.encrypted,
      bitmaps: [...image.bitmaps],
    })),
    job: activeJob && fromJobView(activeJob),
  };
}

function date(time: string | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(time);
}
