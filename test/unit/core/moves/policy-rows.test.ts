/** The steps of an end policy: the conditions of each, and their order. */
import { describe, expect, it } from 'vitest';
import { failure } from '../../../../src/core/errors.ts';
import type { EndVerdict } from '../../../../src/core/job/convergence.ts';
import type { Job } from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import type { EndPolicy, JobOptions } from '../../../../src/core/job-options.ts';
import {
  type Judged,
  type NoEndSince,
  noEndSince,
  POLICY_ROWS,
  policyNews,
} from '../../../../src/core/moves/policy-rows.ts';
import {
  CANCEL,
  HELD,
  jobWith,
  POLICY,
  pivot,
  policyStep,
  READY,
  RUNNING,
  THROTTLE,
  THROTTLED,
  VERDICT,
} from '../stories.ts';

const MIB = 2 ** 20;
const LIMITED: Partial<JobOptions> = { bandwidthBytesPerSecond: 20 * MIB };

function job(policy: Partial<EndPolicy>, options: Partial<JobOptions>, ...entries: readonly EntryBody[]): Job {
  return jobWith({ options: { ...options, endPolicy: { ...POLICY, ...policy } } }, RUNNING, VERDICT, ...entries);
}

/** As in VERDICT: 20 MiB/s are copied, and 100 MiB remain. */
function verdict(more: Partial<EndVerdict> = {}): EndVerdict {
  const { entry: _entry, ...numbers } = VERDICT;
  return { ...numbers, ...more };
}

const LATE = { forMs: POLICY.patienceMs, untriedMs: Infinity, leftMs: 1 };

/** The kind of the step, or the entry of a throttle. */
function stepOf(of: Job, found: Partial<Judged> & Pick<Judged, 'verdict'>): string | undefined {
  const step = policyNews(of, { ...LATE, ...found });
  return step?.entry === 'policy-step' ? step.what : step?.entry;
}

const BY_LIMIT = verdict({ because: 'LIMIT' });
const CEILING: Partial<EndPolicy> = { ceilingBytesPerSecond: 80 * MIB };
const SWITCH: Partial<EndPolicy> = { switchToBlocking: true };
const BOTH = { ...CEILING, ...SWITCH };
const SLOW: Partial<EndPolicy> = { guestThrottle: { floorBytesPerSecond: MIB / 2, maxDurationMs: 1000 } };
const HIGH: Partial<EndPolicy> = { guestThrottle: { floorBytesPerSecond: 64 * MIB, maxDurationMs: 1000 } };
const ALL = { ...BOTH, ...SLOW };
const FAR = verdict({ remainingBytes: 101 * MIB });
const USER: EntryBody = { entry: 'paused', reason: 'USER' };
const SILENT: EntryBody = { ...VERDICT, because: 'NOTHING_COPIED', bytesPerSecond: 0 };
const SPEED: EntryBody = { entry: 'speed-requested', bandwidthBytesPerSecond: 20 * MIB };
const SET: EntryBody = { entry: 'speed', bandwidthBytesPerSecond: 20 * MIB };
const LIFT = [policyStep('LIMIT'), { ...SET, bandwidthBytesPerSecond: 80 * MIB } as EntryBody];

describe('the next step for a copy that does not end', () => {
  it.each<[what: string, Job, EndVerdict, string | undefined]>([
    ['no policy', jobWith({}, RUNNING, VERDICT), BY_LIMIT, undefined],
    ['a policy that allows nothing', job({}, LIMITED), BY_LIMIT, undefined],
    ['its limit is below the ceiling, and holds it back', job(CEILING, LIMITED), BY_LIMIT, 'LIMIT'],
    ['its limit is below the ceiling, and does not', job(CEILING, LIMITED), verdict(), undefined],
    ['it has no limit', job(CEILING, {}), BY_LIMIT, undefined],
    ['its limit is the ceiling', job(CEILING, { bandwidthBytesPerSecond: 80 * MIB }), BY_LIMIT, undefined],
    ['its limit is above the ceiling', job(CEILING, { bandwidthBytesPerSecond: 81 * MIB }), BY_LIMIT, undefined],
    ['a caller has set its limit', job(CEILING, LIMITED, SPEED, SET), BY_LIMIT, undefined],
    ['a caller sets its limit', job(CEILING, LIMITED, SPEED), BY_LIMIT, undefined],
    ['another client of QEMU has set its limit', job(CEILING, LIMITED, SET), BY_LIMIT, undefined],
    ['its limit was lifted before', job(CEILING, LIMITED, policyStep('LIMIT'), SET), BY_LIMIT, undefined],
    ['READY', job(CEILING, LIMITED, READY), BY_LIMIT, 'LIMIT'],
    ['pivoting', job(CEILING, LIMITED, READY, pivot()), BY_LIMIT, 'LIMIT'],
    ['to be cancelled', job(CEILING, LIMITED, CANCEL), BY_LIMIT, undefined],
    ['may switch, and the rest is near', job(SWITCH, {}), verdict(), 'BLOCKING'],
    ['may switch, and the rest is not near', job(SWITCH, {}), verdict({ remainingBytes: 101 * MIB }), undefined],
    ['may not switch', job(CEILING, {}), verdict(), undefined],
    [
      'may switch, and nothing is copied',
      job(SWITCH, {}),
      verdict({ because: 'NOTHING_COPIED', bytesPerSecond: 0, remainingBytes: 0 }),
      undefined,
    ],
    ['may switch, and is BLOCKING', job(SWITCH, { writeMode: 'BLOCKING' }), verdict(), undefined],
    ['has switched', job(SWITCH, {}, policyStep('BLOCKING')), verdict(), undefined],
    [
      'may switch, and QEMU has refused it',
      job(SWITCH, {}, policyStep('BLOCKING'), {
        entry: 'change-refused',
        change: 'WRITE_MODE',
        failure: failure('BUG', { id: '1' }),
      }),
      verdict(),
      undefined,
    ],
    ['may switch, and its guest is held', job(SWITCH, {}, READY, pivot(), HELD), verdict(), undefined],
    ['both help: the limit first', job(BOTH, LIMITED), BY_LIMIT, 'LIMIT'],
    ['the limit is not the reason: the switch at once', job(BOTH, LIMITED), verdict(), 'BLOCKING'],
    ['may slow its guest down', job(SLOW, {}), verdict(), 'throttle-requested'],
    ['may slow its guest down, and copied nothing at first', job(SLOW, {}, SILENT), verdict(), 'throttle-requested'],
    ['may slow its guest down, READY', job(SLOW, {}, READY), verdict(), 'throttle-requested'],
    ['may slow its guest down, pivoting', job(SLOW, {}, READY, pivot()), verdict(), 'throttle-requested'],
    ['may slow its guest down, and it is cancelled', job(SLOW, {}, CANCEL), verdict(), undefined],
    ['may slow its guest down, and is paused', job(SLOW, {}, USER), verdict(), undefined],
    ['may slow its guest down, which is held', job(SLOW, {}, READY, pivot(), HELD), verdict(), undefined],
    ['will be slowed down', job(SLOW, {}, THROTTLE), verdict(), undefined],
    ['is slowed down, and that did not help', job(SLOW, {}, THROTTLE, THROTTLED), verdict(), 'throttle-requested'],
    ['may slow its guest down, with a floor that is too high', job(HIGH, {}), verdict(), 'throttle-not-taken'],
    ['all help: the limit first', job(ALL, LIMITED), BY_LIMIT, 'LIMIT'],
    ['the limit was lifted: the switch before the throttle', job(ALL, LIMITED, ...LIFT), verdict(), 'BLOCKING'],
    ['the switch cannot help: the throttle at once', job(ALL, LIMITED, ...LIFT), FAR, 'throttle-requested'],
    ['has switched, and slows nothing down', job(ALL, {}, policyStep('BLOCKING')), verdict(), undefined],
    ['the limit was lifted: the switch', job(BOTH, LIMITED, policyStep('LIMIT'), SET), verdict(), 'BLOCKING'],
  ])('%s', (_what, of, now, expected) => {
    const forMs = POLICY.patienceMs;
    expect(stepOf(of, { verdict: now, forMs })).toBe(expected);
    expect(stepOf(of, { verdict: now, forMs: forMs - 1 })).toBeUndefined();
  });

  const HOLD: Partial<EndPolicy> = { atDeadline: 'HOLD' };
  const PAUSE: Partial<EndPolicy> = { atDeadline: 'PAUSE_GUEST', maxGuestPauseMs: 5000 };
  const ends = verdict({ because: 'ENDS', convergence: 'CONVERGING' });

  it.each<[what: string, Job, EndVerdict, string | undefined]>([
    ['ABORT', job({}, {}), verdict(), undefined],
    ['HOLD', job(HOLD, {}), verdict(), 'HOLD'],
    ['HOLD, for the second time', job(HOLD, {}, policyStep('HOLD')), verdict(), undefined],
    ['HOLD, and the copy is READY, as is enough', job(HOLD, {}, READY), verdict(), undefined],
    ['HOLD, and the pivot is to come', job(HOLD, { onReady: 'PIVOT' }, READY), verdict(), 'HOLD'],
    ['PAUSE_GUEST, and the rest fits', job(PAUSE, {}), verdict(), 'PAUSE_GUEST'],
    ['PAUSE_GUEST, and the rest fits, as it ends', job(PAUSE, {}), ends, 'PAUSE_GUEST'],
    ['PAUSE_GUEST, and the rest does not fit', job(PAUSE, {}), verdict({ remainingBytes: 101 * MIB }), undefined],
    [
      'PAUSE_GUEST, and the data under way takes too long',
      job(PAUSE, {}),
      verdict({ remainingBytes: 3 * MIB, bytesPerSecond: MIB }),
      undefined,
    ],
    ['PAUSE_GUEST, and nothing is copied', job(PAUSE, {}), verdict({ bytesPerSecond: 0 }), undefined],
    ['PAUSE_GUEST, once', job(PAUSE, {}, policyStep('PAUSE_GUEST')), verdict(), undefined],
    ['PAUSE_GUEST, and the copy is READY, as is enough', job(PAUSE, {}, READY), verdict(), undefined],
    ['PAUSE_GUEST, in a pivot', job(PAUSE, { onReady: 'PIVOT' }, READY, pivot()), verdict(), 'PAUSE_GUEST'],
    ['PAUSE_GUEST, held for its pivot', job(PAUSE, { onReady: 'PIVOT' }, READY, pivot(), HELD), verdict(), undefined],
    ['PAUSE_GUEST, and it waits at a gate', job(PAUSE, { onReady: 'PIVOT' }, READY), verdict(), undefined],
    ['PAUSE_GUEST, and the job is paused', job(PAUSE, {}, USER), verdict(), undefined],
    ['PAUSE_GUEST, and it is cancelled', job(PAUSE, {}, CANCEL), verdict(), undefined],
  ])('at the deadline, %s', (_what, of, now, expected) => {
    expect(stepOf(of, { verdict: now, forMs: 0, leftMs: 0 })).toBe(expected);
    expect(stepOf(of, { verdict: now, forMs: 0 })).toBeUndefined();
  });

  it('slows the guest down, or tries to, only when another patience is over since the last attempt', () => {
    const untriedMs = POLICY.patienceMs;
    for (const policy of [SLOW, HIGH]) {
      expect(stepOf(job(policy, {}), { verdict: verdict(), untriedMs })).toBeDefined();
      expect(stepOf(job(policy, {}), { verdict: verdict(), untriedMs: untriedMs - 1 })).toBeUndefined();
    }
    // The other steps do not wait for that.
    expect(stepOf(job(ALL, {}), { verdict: verdict(), untriedMs: 0 })).toBe('BLOCKING');
  });

  it('is written down with its numbers, and with the reason in words', () => {
    expect(policyNews(job(CEILING, LIMITED), { ...LATE, verdict: BY_LIMIT })).toEqual({
      entry: 'policy-step',
      what: 'LIMIT',
      bandwidthBytesPerSecond: 80 * MIB,
      remainingBytes: 100 * MIB,
      bytesPerSecond: 20 * MIB,
      because: expect.stringContaining('20.0 MiB/s are copied') as string,
    });
    expect(policyNews(job(SWITCH, {}), { ...LATE, verdict: verdict() })).toMatchObject({
      because: expect.stringContaining('the rest of 100.0 MiB is copied within 5 seconds') as string,
    });
  });

  it('has words for each row', () => {
    expect(POLICY_ROWS.filter(({ job: who, qemu, does }) => who === '' || qemu === '' || does === '')).toEqual([]);
    expect(POLICY_ROWS).toHaveLength(5);
  });
});

describe('the time for which a copy does not end', () => {
  const ends = verdict({ because: 'ENDS', convergence: 'CONVERGING' });
  const before: NoEndSince = { sinceMs: 5, steps: 0 };

  it('begins when both the written verdict and the present one say so, and goes on', () => {
    expect(noEndSince(undefined, job({}, {}), verdict(), 7)).toEqual({ sinceMs: 7, steps: 0 });
    expect(noEndSince(before, job({}, {}), verdict(), 7)).toBe(before);
  });

  it('ends with a verdict that the copy ends, and does not begin before one is written', () => {
    expect(noEndSince(before, job({}, {}), ends, 7)).toBeUndefined();
    expect(noEndSince(before, jobWith({}, RUNNING), verdict(), 7)).toBeUndefined();
    expect(noEndSince(before, job({}, {}, { entry: 'verdict', ...ends }), verdict(), 7)).toBeUndefined();
  });

  it('begins again with each step', () => {
    expect(noEndSince(before, job(BOTH, LIMITED, policyStep('LIMIT')), verdict(), 7)).toEqual({ sinceMs: 7, steps: 1 });
    expect(noEndSince(before, job(SLOW, {}, THROTTLE), verdict(), 7)).toEqual({ sinceMs: 7, steps: 1 });
  });
});
