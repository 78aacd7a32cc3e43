/** The end policy of a copy, and its steps: messages ↔ core types. */
import {
  AtDeadline,
  EndStep_Kind,
  type JobEndPolicy,
  type EndPolicy as PolicyMessage,
  type EndStep as StepMessage,
  type ThrottledGuest,
} from '../../generated/blockjob/v1/job.ts';
import type { ShownStep, ShownThrottle } from '../core/job/job-view.ts';
import type { EndPolicy } from '../core/job-options.ts';
import type { AskedPolicy } from '../core/requests.ts';
import { durationOf, toMs } from './durations.ts';
import { fromEnum, namedOf, numberOf, toEnum } from './enums.ts';

export function toAskedPolicy({
  patience,
  maxGuestPause,
  guestThrottle: throttle,
  ...message
}: PolicyMessage): AskedPolicy {
  return {
    patienceMs: toMs(patience),
    ceilingBytesPerSecond: message.bandwidthCeilingBytesPerSecond,
    switchToBlocking: message.switchToBlocking,
    chooseGranularity: message.chooseGranularity,
    atDeadline: fromEnum(AtDeadline, 'AT_DEADLINE', message.atDeadline),
    maxGuestPauseMs: toMs(maxGuestPause),
    ...(throttle && {
      guestThrottle: { floorBytesPerSecond: throttle.floorBytesPerSecond, maxDurationMs: toMs(throttle.maxDuration) },
    }),
  };
}

export function fromAskedPolicy({
  patienceMs,
  maxGuestPauseMs,
  guestThrottle: throttle,
  ...asked
}: AskedPolicy): PolicyMessage {
  return {
    patience: durationOf(patienceMs),
    bandwidthCeilingBytesPerSecond: asked.ceilingBytesPerSecond,
    switchToBlocking: asked.switchToBlocking,
    chooseGranularity: asked.chooseGranularity,
    atDeadline: numberOf(AtDeadline, 'AT_DEADLINE', asked.atDeadline),
    maxGuestPause: durationOf(maxGuestPauseMs),
    guestThrottle: throttle && {
      floorBytesPerSecond: throttle.floorBytesPerSecond,
      maxDuration: durationOf(throttle.maxDurationMs),
    },
  };
}

export function fromEndPolicy(
  { ceilingBytesPerSecond, guestThrottle: throttle, ...policy }: EndPolicy,
  steps: readonly ShownStep[],
): JobEndPolicy {
  const guestThrottle = throttle && { ...throttle, floorBytesPerSecond: BigInt(throttle.floorBytesPerSecond) };
  const asked = { ...policy, ceilingBytesPerSecond: BigInt(ceilingBytesPerSecond), guestThrottle };
  return { policy: fromAskedPolicy(asked), steps: steps.map(fromStep) };
}

export function toEndPolicy({
  patience,
  maxGuestPause,
  guestThrottle: throttle,
  ...message
}: PolicyMessage): EndPolicy {
  return {
    patienceMs: toMs(patience) ?? 0,
    ceilingBytesPerSecond: Number(message.bandwidthCeilingBytesPerSecond),
    switchToBlocking: message.switchToBlocking,
    chooseGranularity: message.chooseGranularity,
    atDeadline: namedOf(AtDeadline, 'AT_DEADLINE', message.atDeadline),
    maxGuestPauseMs: toMs(maxGuestPause),
    ...(throttle && {
      guestThrottle: {
        floorBytesPerSecond: Number(throttle.floorBytesPerSecond),
        maxDurationMs: toMs(throttle.maxDuration) ?? 0,
      },
    }),
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

export function fromThrottle({ limitBytesPerSecond, since, group }: ShownThrottle): ThrottledGuest {
  return { limitBytesPerSecond: BigInt(limitBytesPerSecond), since: new Date(since), group };
}

export function toShownThrottle({ limitBytesPerSecond, since, group }: ThrottledGuest): ShownThrottle {
  return { limitBytesPerSecond: Number(limitBytesPerSecond), since: since?.toISOString() ?? '', group };
}
