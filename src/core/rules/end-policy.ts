/** The rules of the end policy of a copy, and its meaning. */
import type { Violation } from '../errors.ts';
import type { EndPolicy } from '../job-options.ts';
import type { AskedPolicy, CopyRequest } from '../requests.ts';
import { bandwidth, bandwidthOf, enumKnown, given, invalid } from './rule.ts';

const PATIENCE_RANGE_MS = { minimum: 1000, maximum: 24 * 3600 * 1000 };
const PATIENCE_MS = 60_000;
const THROTTLED_RANGE_MS = PATIENCE_RANGE_MS;
/** One write of a guest that may write less waits too long. */
const FLOOR_RANGE = { minimum: 65_536n, maximum: 2n ** 40n };
/** The limit of every pause of the guest. */
const PAUSE_RANGE_MS = { minimum: 100, maximum: 5000 };

export function endPolicyRules({
  endPolicy: policy,
  timeLimitMs,
  writeMode,
}: Pick<CopyRequest, 'endPolicy' | 'timeLimitMs' | 'writeMode'>): Violation[] {
  if (policy === undefined) return [];
  const atDeadline = given(policy.atDeadline) ?? 'ABORT';
  return [
    ...(isWithin(policy.patienceMs, PATIENCE_RANGE_MS)
      ? []
      : [invalid('end_policy.patience', 'must be from 1 second to 1 day; leave it out for 1 minute')]),
    ...bandwidth('end_policy.bandwidth_ceiling_bytes_per_second', policy.ceilingBytesPerSecond),
    ...enumKnown('end_policy.at_deadline', policy.atDeadline),
    ...(atDeadline !== 'ABORT' && timeLimitMs === undefined
      ? [invalid('end_policy.at_deadline', 'needs time_limit, which is the deadline')]
      : []),
    ...pauseRules(policy.maxGuestPauseMs, atDeadline === 'PAUSE_GUEST'),
    ...throttleRules(policy, writeMode === 'BLOCKING'),
  ];
}

function throttleRules({ guestThrottle: throttle }: AskedPolicy, isBlocking: boolean): Violation[] {
  if (throttle === undefined) return [];
  const field = 'end_policy.guest_throttle';
  const { floorBytesPerSecond: floor, maxDurationMs } = throttle;
  const isInRange = floor >= FLOOR_RANGE.minimum && floor <= FLOOR_RANGE.maximum;
  const hasDuration = maxDurationMs !== undefined && isWithin(maxDurationMs, THROTTLED_RANGE_MS);
  return [
    ...(isInRange ? [] : [invalid(`${field}.floor_bytes_per_second`, 'must be from 65536 to 2^40')]),
    ...(hasDuration ? [] : [invalid(`${field}.max_duration`, 'must be from 1 second to 1 day')]),
    ...(isBlocking
      ? [invalid(field, 'is not for write_mode BLOCKING: there the guest’s writes wait for the copy')]
      : []),
  ];
}

function pauseRules(ms: number | undefined, isUsed: boolean): Violation[] {
  const field = 'end_policy.max_guest_pause';
  if (ms === undefined) return isUsed ? [invalid(field, 'is missing; at_deadline PAUSE_GUEST needs it')] : [];
  if (!isUsed) return [invalid(field, 'is for at_deadline PAUSE_GUEST only; leave it out')];
  return isWithin(ms, PAUSE_RANGE_MS) ? [] : [invalid(field, 'must be from 100 milliseconds to 5 seconds')];
}

function isWithin(ms: number | undefined, { minimum, maximum }: typeof PAUSE_RANGE_MS): boolean {
  return ms === undefined || (ms >= minimum && ms <= maximum);
}

export function endPolicyOf({ patienceMs = PATIENCE_MS, ...asked }: AskedPolicy): EndPolicy {
  const { switchToBlocking, chooseGranularity, maxGuestPauseMs, guestThrottle: throttle } = asked;
  const guestThrottle = throttle && {
    floorBytesPerSecond: Number(throttle.floorBytesPerSecond),
    maxDurationMs: throttle.maxDurationMs ?? 0,
  };
  return {
    patienceMs,
    ceilingBytesPerSecond: bandwidthOf(asked.ceilingBytesPerSecond),
    switchToBlocking,
    chooseGranularity,
    atDeadline: given(asked.atDeadline) ?? 'ABORT',
    maxGuestPauseMs,
    ...(guestThrottle && { guestThrottle }),
  };
}
