/** The end policy of a copy, and its steps: messages ↔ core types. */
import {
  AtDeadline,
  EndStep_Kind,
  type JobEndPolicy,
  type EndPolicy as PolicyMessage,
  type EndStep as StepMessage,
} from '../../generated/blockjob/v1/job.ts';
import type { ShownStep } from '../core/job/job-view.ts';
import type { EndPolicy } from '../core/job-options.ts';
import type { AskedPolicy } from '../core/requests.ts';
import { fromMs, toMs } from './durations.ts';
import { fromEnum, namedOf, numberOf, toEnum } from './enums.ts';

export function toAskedPolicy({ patience, maxGuestPause, ...message }: PolicyMessage): AskedPolicy {
  return {
    patienceMs: toMs(patience),
    ceilingBytesPerSecond: message.bandwidthCeilingBytesPerSecond,
    switchToBlocking: message.switchToBlocking,
    chooseGranularity: message.chooseGranularity,
    atDeadline: fromEnum(AtDeadline, 'AT_DEADLINE', message.atDeadline),
    maxGuestPauseMs: toMs(maxGuestPause),
  };
}

export function fromAskedPolicy({ patienceMs, maxGuestPauseMs, ...asked }: AskedPolicy): PolicyMessage {
  return {
    patience: patienceMs === undefined ? undefined : fromMs(patienceMs),
    bandwidthCeilingBytesPerSecond: asked.ceilingBytesPerSecond,
    switchToBlocking: asked.switchToBlocking,
    chooseGranularity: asked.chooseGranularity,
    atDeadline: numberOf(AtDeadline, 'AT_DEADLINE', asked.atDeadline),
    maxGuestPause: maxGuestPauseMs === undefined ? undefined : fromMs(maxGuestPauseMs),
  };
}

export function fromEndPolicy(
  { ceilingBytesPerSecond, ...policy }: EndPolicy,
  steps: readonly ShownStep[],
): JobEndPolicy {
  const asked = { ...policy, ceilingBytesPerSecond: BigInt(ceilingBytesPerSecond) };
  return { policy: fromAskedPolicy(asked), steps: steps.map(fromStep) };
}

export function toEndPolicy({ patience, maxGuestPause, ...message }: PolicyMessage): EndPolicy {
  return {
    patienceMs: toMs(patience) ?? 0,
    ceilingBytesPerSecond: Number(message.bandwidthCeilingBytesPerSecond),
    switchToBlocking: message.switchToBlocking,
    chooseGranularity: message.chooseGranularity,
    atDeadline: namedOf(AtDeadline, 'AT_DEADLINE', message.atDeadline),
    maxGuestPauseMs: toMs(maxGuestPause),
  };
}

function fromStep({ what, because, bandwidthBytesPerSecond = 0, ...step }: ShownStep): StepMessage {
  return {
    kind: toEnum(EndStep_Kind, 'KIND', what),
    revision: BigInt(step.revision),
    time: new Date(step.time),
    reason: because,
    remainingBytes: BigInt(step.remainingBytes),
    bytesPerSecond: BigInt(step.bytesPerSecond),
    bandwidthBytesPerSecond: BigInt(bandwidthBytesPerSecond),
  };
}

export function toStep({ kind, reason, bandwidthBytesPerSecond, ...step }: StepMessage): ShownStep {
  return {
    what: namedOf(EndStep_Kind, 'KIND', kind),
    because: reason,
    revision: Number(step.revision),
    time: step.time?.toISOString() ?? '',
    remainingBytes: Number(step.remainingBytes),
    bytesPerSecond: Number(step.bytesPerSecond),
    ...(bandwidthBytesPerSecond > 0n && { bandwidthBytesPerSecond: Number(bandwidthBytesPerSecond) }),
  };
}
