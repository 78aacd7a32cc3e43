import { describe, expect, it } from 'vitest';
import type { AskedPolicy, CopyRequest } from '../../../../src/core/requests.ts';
import { endPolicyOf, endPolicyRules } from '../../../../src/core/rules/end-policy.ts';
import { NO_STEPS } from '../../../support/service/agent.ts';
import { POLICY } from '../stories.ts';

const DAY_MS = 86_400_000;
const THROTTLE = { floorBytesPerSecond: 1_048_576n, maxDurationMs: 60_000 };
const throttle = (more: Partial<NonNullable<AskedPolicy['guestThrottle']>>): AskedPolicy => ({
  ...NO_STEPS,
  guestThrottle: { ...THROTTLE, ...more },
});
const wrong = (endPolicy: AskedPolicy | undefined, writeMode: CopyRequest['writeMode'] = 'BACKGROUND') =>
  endPolicyRules({ ...(endPolicy && { endPolicy }), writeMode, timeLimitMs: undefined });

describe('an end policy that slows its guest down', () => {
  it.each<[string, string, AskedPolicy]>([
    ['a floor of 0', 'end_policy.guest_throttle.floor_bytes_per_second', throttle({ floorBytesPerSecond: 0n })],
    ['a low floor', 'end_policy.guest_throttle.floor_bytes_per_second', throttle({ floorBytesPerSecond: 65_535n })],
    ['a high floor', 'end_policy.guest_throttle.floor_bytes_per_second', throttle({ floorBytesPerSecond: 2n ** 41n })],
    ['no longest time', 'end_policy.guest_throttle.max_duration', throttle({ maxDurationMs: undefined })],
    ['a short time', 'end_policy.guest_throttle.max_duration', throttle({ maxDurationMs: 999 })],
    ['a long time', 'end_policy.guest_throttle.max_duration', throttle({ maxDurationMs: DAY_MS + 1 })],
  ])('is refused with %s', (_what, field, endPolicy) => {
    expect(wrong(endPolicy)).toMatchObject([{ field, reason: 'FIELD_INVALID' }]);
  });

  it('is refused with write mode BLOCKING if it slows the guest down', () => {
    const slows = wrong(throttle({}), 'BLOCKING');
    expect(slows).toMatchObject([{ field: 'end_policy.guest_throttle', reason: 'FIELD_INVALID' }]);
    expect(wrong(NO_STEPS, 'BLOCKING')).toEqual([]);
  });

  it.each<[string, AskedPolicy | undefined]>([
    ['none', undefined],
    ['nothing', NO_STEPS],
    ['the least values', throttle({ floorBytesPerSecond: 65_536n, maxDurationMs: 1000 })],
    [
      'the highest values',
      { ...throttle({ floorBytesPerSecond: 2n ** 40n, maxDurationMs: DAY_MS }), patienceMs: DAY_MS },
    ],
  ])('is accepted with %s', (_what, endPolicy) => {
    expect(wrong(endPolicy)).toEqual([]);
  });

  it('has the bounds of the throttle', () => {
    const guestThrottle = { floorBytesPerSecond: 1_048_576, maxDurationMs: 60_000 };
    expect(endPolicyOf(throttle({}))).toEqual({ ...POLICY, guestThrottle });
    expect(endPolicyOf(NO_STEPS)).toEqual(POLICY);
  });
});
