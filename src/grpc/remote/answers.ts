/** Messages → core types: the answers of a remote service. */
import { type Plan, PlanStep_Phase, type StartCopyResponse } from '../../../generated/blockjob/v1/block_job_service.ts';
import {
  Accept,
  ConfigOwner,
  Convergence,
  DestinationContent,
  type Destination as DestinationMessage,
  Evidence_Source,
  ImageFormat,
  Job_State,
  JobEvent_Kind,
  type JobEvent as JobEventMessage,
  JobKind,
  type Job as JobMessage,
  OnNoSpace,
  OnReady,
  type JobOptions as OptionsMessage,
  type Outcome as OutcomeMessage,
  PauseGuest,
  PauseReason,
  Progress_Phase,
  type Progress as ProgressMessage,
  WriteMode,
} from '../../../generated/blockjob/v1/job.ts';
import type { PlannedJob, Started } from '../../core/block-jobs.ts';
import { fail } from '../../core/errors.ts';
import { JobEvent } from '../../core/job/job-event.ts';
import type { JobView, PublicAccepted } from '../../core/job/job-view.ts';
import type { Outcome } from '../../core/job/outcome.ts';
import type { Progress } from '../../core/job/progress.ts';
import type { JobOptions } from '../../core/job-options.ts';
import { defined } from '../../lib/defined.ts';
import { toMs } from '../durations.ts';
import { toEndPolicy, toShownThrottle, toStep } from '../end-policies.ts';
import { enumName, namedOf } from '../enums.ts';
import { toShownGate } from '../gates.ts';
import { toTarget } from '../requests.ts';
import { toSpace } from '../spaces.ts';
import { failureOf } from './failure.ts';

export function toJobView(message: JobMessage | undefined): JobView {
  if (message === undefined) fail('NOT_IMPLEMENTED', { feature: 'an answer without a job' });
  const bandwidthBytesPerSecond = Number(message.bandwidthBytesPerSecond);
  const { policy, steps = [] } = message.endPolicy ?? {};
  return {
    job: {
      accepted: {
        job: message.id,
        kind: namedOf(JobKind, 'JOB_KIND', message.kind),
        host: message.host,
        domain: message.disk?.domain ?? '',
        domainUuid: unlessEmpty(message.domainUuid),
        disk: message.disk?.disk ?? '',
        source: { path: message.sourcePath },
        destination: toDestination(message.destination),
        options: {
          ...toOptions(message.options, bandwidthBytesPerSecond),
          ...defined({ endPolicy: policy && toEndPolicy(policy) }),
          ...defined({ configOwner: enumName(ConfigOwner, 'CONFIG_OWNER', message.configOwner) }),
        },
        ...(Object.keys(message.labels).length > 0 && { labels: message.labels }),
        ...(message.createdBy !== '' && { createdBy: message.createdBy }),
      },
      requestId: message.requestId,
      state: namedOf(Job_State, 'STATE', message.state),
      revision: Number(message.revision),
      createTime: message.createTime?.toISOString() ?? '',
      readyTime: message.readyTime?.toISOString(),
      endTime: message.endTime?.toISOString(),
      pauseReason: enumName(PauseReason, 'PAUSE_REASON', message.pauseReason),
      bandwidthBytesPerSecond,
      failure: message.error && failureOf(message.error),
      pivotGate: message.pivotGate && toShownGate(message.pivotGate),
      outcome: toOutcome(message.outcome),
      ...defined({
        space: message.space && toSpace(message.space),
        guestThrottle: message.guestThrottle && toShownThrottle(message.guestThrottle),
      }),
      ...(steps.length > 0 && { policySteps: steps.map(toStep) }),
    },
    progress: message.progress && toProgress(message.progress),
  };
}

export function toStarted({ result }: StartCopyResponse): Started {
  return result?.$case === 'plan' ? toPlannedJob(result.value) : toJobView(result?.value);
}

function toPlannedJob(plan: Plan): PlannedJob {
  return {
    etag: plan.etag,
    accepted: {
      job: '',
      kind: namedOf(JobKind, 'JOB_KIND', plan.kind),
      host: '',
      domain: '',
      domainUuid: undefined,
      disk: '',
      source: { path: plan.sourcePath },
      destination: toDestination(plan.destination),
      options: toOptions(plan.options, 0),
    },
    steps: plan.steps.map(({ phase, ...step }) => ({ ...step, phase: namedOf(PlanStep_Phase, 'PHASE', phase) })),
    notes: plan.notes,
  };
}

function toDestination(message: DestinationMessage | undefined): PublicAccepted['destination'] {
  const target = toTarget(message);
  if (message === undefined || target === undefined) return undefined;
  const { encryption } = message;
  return {
    target,
    format: namedOf(ImageFormat, 'IMAGE_FORMAT', message.format),
    ...defined({ encryption }),
  };
}

function toOptions(message: OptionsMessage | undefined, bandwidthBytesPerSecond: number): JobOptions {
  if (message === undefined) fail('NOT_IMPLEMENTED', { feature: 'a job without options' });
  const { granularityBytes, bufferBytes, timeLimit, writeMode, onReady, onNoSpace, pauseGuest, accept, ...plain } =
    message;
  return {
    ...plain,
    bandwidthBytesPerSecond,
    granularityBytes: granularityBytes === 0n ? undefined : Number(granularityBytes),
    bufferBytes: Number(bufferBytes),
    timeLimitMs: toMs(timeLimit),
    writeMode: namedOf(WriteMode, 'WRITE_MODE', writeMode),
    onReady: namedOf(OnReady, 'ON_READY', onReady),
    onNoSpace: namedOf(OnNoSpace, 'ON_NO_SPACE', onNoSpace),
    pauseGuest: namedOf(PauseGuest, 'PAUSE_GUEST', pauseGuest),
    accept: accept.map((one) => namedOf(Accept, 'ACCEPT', one)),
  };
}

function toProgress(message: ProgressMessage): Progress {
  return {
    currentBytes: Number(message.currentBytes),
    endBytes: Number(message.endBytes),
    percent: message.percent,
    remainingBytes: Number(message.remainingBytes),
    bytesPerSecond: Number(message.bytesPerSecond),
    dirtyBytesPerSecond: Number(message.dirtyBytesPerSecond),
    etaMs: toMs(message.eta),
    convergence: enumName(Convergence, 'CONVERGENCE', message.convergence),
    floorBytes: Number(message.floorBytes),
    demandBytesPerSecond: Number(message.demandBytesPerSecond),
    guestBytesPerSecond: Number(message.guestBytesPerSecond),
    guestWriteBytes: Number(message.guestWriteBytes),
    phase: enumName(Progress_Phase, 'PHASE', message.phase),
    reason: message.reason,
    sampleTime: message.sampleTime?.toISOString() ?? '',
    ...(message.toVerifyBytes > 0n && {
      verified: { bytes: Number(message.verifiedBytes), ofBytes: Number(message.toVerifyBytes) },
    }),
  };
}

function toOutcome(message: OutcomeMessage | undefined): Outcome {
  if (message === undefined) fail('NOT_IMPLEMENTED', { feature: 'a job without outcome' });
  const { guestAsOf, guestChangedByJobId, destinationChangedByJobId } = message;
  return {
    guestWritesTo: unlessEmpty(message.guestWritesTo),
    ...defined({ guestAsOf: guestAsOf?.toISOString() }),
    ...(guestChangedByJobId === '' ? {} : { guestChangedBy: guestChangedByJobId }),
    ...(message.setConfigBackTo === '' ? {} : { setConfigBackTo: message.setConfigBackTo }),
    ...(destinationChangedByJobId === '' ? {} : { destinationChangedBy: destinationChangedByJobId }),
    destinationContent: enumName(DestinationContent, 'DESTINATION_CONTENT', message.destinationContent),
    asOf: message.asOf?.toISOString(),
    destinationRemoved: message.destinationRemoved,
    safeToDelete: message.safeToDelete.map(({ sharedStorage, ...file }) => ({
      ...file,
      ...(sharedStorage === '' ? {} : { sharedStorage }),
    })),
    evidence: message.evidence.map(({ source, text, revision }) => ({
      source: namedOf(Evidence_Source, 'SOURCE', source),
      text,
      revision: Number(revision),
    })),
  };
}

export function toJobEvent(message: JobEventMessage | undefined): JobEvent {
  if (message === undefined) fail('NOT_IMPLEMENTED', { feature: 'an answer without an event' });
  return new JobEvent({
    ...toJobView(message.job),
    type: namedOf(JobEvent_Kind, 'KIND', message.kind),
    time: message.time?.toISOString() ?? '',
    detail: message.detail,
    oldestRevision: message.oldestRevision === 0n ? undefined : Number(message.oldestRevision),
  });
}

export function unlessEmpty(text: string): string | undefined {
  return text === '' ? undefined : text;
}
