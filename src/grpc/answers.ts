/** Core types → messages. */
import {
  type ForeignJob as ForeignJobMessage,
  Leftover_Kind,
  Leftover as LeftoverMessage,
  type Plan,
  PlanStep_Phase,
  type ReclaimResult as ReclaimResultMessage,
  type StartCopyResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import {
  Accept,
  ConfigOwner,
  Convergence,
  DestinationContent,
  Evidence_Source,
  ImageFormat,
  Job_State,
  JobEvent_Kind,
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
  Progress_Phase,
  type Progress as ProgressMessage,
  WriteMode,
} from '../../generated/blockjob/v1/job.ts';
import type { Leftover, PlannedJob, ReclaimResult, Started } from '../core/block-jobs.ts';
import type { NbdExport } from '../core/destination.ts';
import type { ForeignJob } from '../core/foreign-job.ts';
import type { EventFacts } from '../core/job/job-event.ts';
import type { JobView, PublicAccepted } from '../core/job/job-view.ts';
import type { Outcome } from '../core/job/outcome.ts';
import type { Progress } from '../core/job/progress.ts';
import { fromMs } from './durations.ts';
import { fromEndPolicy, fromThrottle } from './end-policies.ts';
import { numberOf, toEnum } from './enums.ts';
import { fromShownGate } from './gates.ts';
import { fromSpace } from './spaces.ts';
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
    pauseReason: numberOf(PauseReason, 'PAUSE_REASON', job.pauseReason),
    progress: progress && fromProgress(progress),
    bandwidthBytesPerSecond: BigInt(job.bandwidthBytesPerSecond),
    destination: fromDestination(accepted),
    sourcePath: accepted.source.path,
    options: fromOptions(accepted),
    error: job.failure && statusOf(job.failure),
    space: job.space && fromSpace(job.space),
    guestThrottle: job.guestThrottle && fromThrottle(job.guestThrottle),
    outcome: fromOutcome(job.outcome),
    revision: BigInt(job.revision),
    createTime: new Date(job.createTime),
    readyTime: date(job.readyTime),
    endTime: date(job.endTime),
    requestId: job.requestId,
    labels: { ...accepted.labels },
    createdBy: accepted.createdBy ?? '',
    endPolicy: accepted.options.endPolicy && fromEndPolicy(accepted.options.endPolicy, job.policySteps ?? []),
    pivotGate: job.pivotGate && fromShownGate(job.pivotGate),
    configOwner: numberOf(ConfigOwner, 'CONFIG_OWNER', accepted.options.configOwner),
  };
}

export function fromStarted(started: Started): StartCopyResponse {
  return {
    result:
      'etag' in started
        ? { $case: 'plan', value: fromPlannedJob(started) }
        : { $case: 'job', value: fromJobView(started) },
  };
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
      run,
      undo,
      reason,
    })),
    notes: [...notes],
  };
}

function fromDestination({ destination }: PublicAccepted): JobMessage['destination'] {
  if (destination?.target === undefined) return undefined;
  const { target, encryption } = destination;
  const format: ImageFormat = toEnum(ImageFormat, 'IMAGE_FORMAT', destination.format);
  if (target.kind === 'nbd') return { target: { $case: 'nbd', value: fromNbd(target.nbd) }, format, encryption };
  const $case = target.kind === 'file' ? 'file' : 'blockDevice';
  return { target: { $case, value: target.path }, format, encryption };
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

function fromOptions({ options }: PublicAccepted): JobOptions {
  const { shallow, reuseExternal, relativeBacking, timeLimitMs, basePath, topPath, deleteCommitted } = options;
  return {
    shallow,
    reuseExternal,
    relativeBacking,
    verifyReused: options.verifyReused ?? false,
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
    accept: (options.accept ?? []).map((one) => toEnum(Accept, 'ACCEPT', one)),
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
    convergence: numberOf(Convergence, 'CONVERGENCE', progress.convergence),
    floorBytes: BigInt(progress.floorBytes),
    demandBytesPerSecond: BigInt(progress.demandBytesPerSecond),
    guestBytesPerSecond: BigInt(progress.guestBytesPerSecond),
    guestWriteBytes: BigInt(progress.guestWriteBytes),
    phase: numberOf(Progress_Phase, 'PHASE', progress.phase),
    reason: progress.reason,
    sampleTime: date(progress.sampleTime),
    verifiedBytes: BigInt(progress.verified?.bytes ?? 0),
    toVerifyBytes: BigInt(progress.verified?.ofBytes ?? 0),
  };
}

function fromOutcome(outcome: Outcome): OutcomeMessage {
  return {
    guestWritesTo: outcome.guestWritesTo ?? '',
    destinationContent: numberOf(DestinationContent, 'DESTINATION_CONTENT', outcome.destinationContent),
    asOf: date(outcome.asOf),
    safeToDelete: outcome.safeToDelete.map(({ sharedStorage = '', ...file }) => ({ ...file, sharedStorage })),
    evidence: outcome.evidence.map((one) => ({
      source: toEnum(Evidence_Source, 'SOURCE', one.source),
      text: one.text,
      revision: BigInt(one.revision),
    })),
    destinationRemoved: outcome.destinationRemoved,
    nextStartPath: outcome.guestWritesTo ?? '',
    guestAsOf: date(outcome.guestAsOf),
    guestChangedByJobId: outcome.guestChangedBy ?? '',
    destinationChangedByJobId: outcome.destinationChangedBy ?? '',
    setConfigBackTo: outcome.setConfigBackTo ?? '',
  };
}

export function fromJobEvent(event: EventFacts): JobEventMessage {
  return {
    revision: BigInt(event.oldestRevision === undefined ? event.job.revision : event.oldestRevision - 1),
    time: new Date(event.time),
    kind: toEnum(JobEvent_Kind, 'KIND', event.type),
    job: fromJobView(event),
    detail: event.detail,
    oldestRevision: BigInt(event.oldestRevision ?? 0),
  };
}

export function fromForeignJob(foreign: ForeignJob): ForeignJobMessage {
  const { id, host, domain, disk, type, status } = foreign;
  return {
    id,
    disk: { domain, disk: disk ?? '' },
    domainUuid: foreign.domainUuid ?? '',
    host,
    kind: type,
    status,
    current: BigInt(foreign.currentBytes),
    end: BigInt(foreign.endBytes),
    error: foreign.error ?? '',
    managedByLibvirt: foreign.isOfLibvirt,
  };
}

export function fromLeftover(leftover: Leftover): LeftoverMessage {
  return {
    ...leftover,
    kind: toEnum(Leftover_Kind, 'KIND', leftover.kind),
    allocatedBytes: BigInt(leftover.allocatedBytes),
    createTime: date(leftover.createTime),
  };
}

export function fromReclaimResult({ id, leftover, failure }: ReclaimResult): ReclaimResultMessage {
  return {
    leftover: leftover === undefined ? LeftoverMessage.fromPartial({ id }) : fromLeftover(leftover),
    reclaimed: failure === undefined,
    error: failure && statusOf(failure),
  };
}

function date(time: string | undefined): Date | undefined {
  return time === undefined ? undefined : new Date(time);
}
