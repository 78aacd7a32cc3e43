/** Core types → messages. */
import { type Plan, PlanStep_Phase, type StartCopyResponse } from '../../generated/blockjob/v1/block_job_service.ts';
import {
  type Disk as DiskMessage,
  type Domain as DomainMessage,
  GuestState,
} from '../../generated/blockjob/v1/domain_service.ts';
import {
  Convergence,
  DestinationContent,
  Evidence_Source,
  ImageFormat,
  Job_State,
  JobEvent_Type,
  type JobEvent as JobEventMessage,
  JobKind,
  type Job as JobMessage,
  type JobOptions,
  type NbdDestination,
  OnNoSpace,
  OnReady,
  type Outcome as OutcomeMessage,
  PauseGuest,
  PauseReason,
  type Progress as ProgressMessage,
  WriteMode,
} from '../../generated/blockjob/v1/job.ts';
import type { Duration } from '../../generated/google/protobuf/duration.ts';
import type { Domain, DomainDisk, JobEvent, JobView, PlannedJob, Started } from '../core/block-jobs.ts';
import type { NbdExport } from '../core/destination.ts';
import type { Accepted } from '../core/journal-entry.ts';
import type { Outcome } from '../core/outcome.ts';
import { inNotation } from '../core/plans/preview.ts';
import type { Progress } from '../core/progress.ts';
import { toEnum } from './enums.ts';
import { statusOf } from './status.ts';

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
    bandwidthBytesPerSecond: BigInt(job.bandwidthBytesPerSecond),
    destination: fromDestination(accepted),
    sourcePath: accepted.source.path,
    options: fromOptions(accepted),
    error: job.failure && statusOf(job.failure),
    outcome: fromOutcome(job.outcome),
    revision: BigInt(job.revision),
    createTime: new Date(job.createTime),
    readyTime: date(job.readyTime),
    endTime: date(job.endTime),
    requestId: job.requestId,
  };
}

export function fromStarted(started: Started): StartCopyResponse {
  return 'etag' in started
    ? { job: undefined, plan: fromPlannedJob(started) }
    : { job: fromJobView(started), plan: undefined };
}

function fromPlannedJob({ etag, accepted, steps, notes }: PlannedJob): Plan {
  return {
    etag,
    kind: toEnum(JobKind, 'JOB_KIND', accepted.kind),
    sourcePath: accepted.source.path,
    destination: fromDestination(accepted),
    options: fromOptions(accepted),
    steps: steps.map(({ name, phase, run, undo, reason }) => ({
      name,
      phase: toEnum(PlanStep_Phase, 'PHASE', phase),
      run: run === undefined ? '' : inNotation(run),
      undo: undo === undefined ? '' : inNotation(undo),
      reason,
    })),
    notes: [...notes],
  };
}

function fromDestination({ destination }: Accepted): JobMessage['destination'] {
  if (destination?.target === undefined) return undefined;
  const { target } = destination;
  const format: ImageFormat = toEnum(ImageFormat, 'IMAGE_FORMAT', destination.format);
  if (target.kind === 'nbd') return { target: { $case: 'nbd', value: fromNbd(target.nbd) }, format };
  const $case = target.kind === 'file' ? 'file' : 'blockDevice';
  return { target: { $case, value: target.path }, format };
}

function fromNbd({ server, exportName, tlsCredentialsId, tlsHostname }: NbdExport): NbdDestination {
  return {
    server:
      server.kind === 'tcp'
        ? { $case: 'tcp', value: { host: server.host, port: server.port } }
        : { $case: 'unixSocket', value: server.path },
    exportName,
    tlsCredentialsId,
    tlsHostname,
  };
}

function fromOptions({ options }: Accepted): JobOptions {
  const { shallow, reuseExternal, relativeBacking, timeLimitMs, basePath, topPath, deleteCommitted } = options;
  return {
    shallow,
    reuseExternal,
    relativeBacking,
    granularityBytes: BigInt(options.granularityBytes ?? 0),
    bufferBytes: BigInt(options.bufferBytes),
    writeMode: toEnum(WriteMode, 'WRITE_MODE', options.writeMode),
    onReady: toEnum(OnReady, 'ON_READY', options.onReady),
    onNoSpace: toEnum(OnNoSpace, 'ON_NO_SPACE', options.onNoSpace),
    timeLimit: timeLimitMs === undefined ? undefined : fromMs(timeLimitMs),
    pauseGuest: toEnum(PauseGuest, 'PAUSE_GUEST', options.pauseGuest),
    basePath,
    topPath,
    deleteCommitted,
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
    destinationContent:
      outcome.destinationContent === undefined
        ? DestinationContent.DESTINATION_CONTENT_UNSPECIFIED
        : toEnum(DestinationContent, 'DESTINATION_CONTENT', outcome.destinationContent),
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
    oldestRevision: 0n,
  };
}

export function fromDomain(domain: Domain, disks: readonly DomainDisk[] = []): DomainMessage {
  const { connection } = domain;
  const up = connection.up ? connection : undefined;
  const why = connection.up ? undefined : connection.why;
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
      bitmaps: image.bitmaps.map(({ name }) => name),
    })),
    job: activeJob && fromJobView(activeJob),
  };
}

function date(time: string | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(time);
}
