import { describe, expect, it } from 'vitest';
import { failure } from '../../../../src/core/errors.ts';
import type { EndVerdict } from '../../../../src/core/job/convergence.ts';
import {
  isSlowedDown,
  isToBeTakenAway,
  nextThrottle,
  refusedThrottle,
} from '../../../../src/core/job/guest-throttle.ts';
import { allows, IllegalTransition, type Job } from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { knownOf } from '../../../../src/core/job/known-job.ts';
import { type DiskLimits, NO_EFFECT } from '../../../../src/core/qemu/limits.ts';
import {
  CONCLUDED,
  ended,
  FORCE,
  JOB,
  jobWith,
  LIFTED,
  POLICY,
  READY,
  RUNNING,
  THROTTLE,
  THROTTLED,
  THROTTLING,
  TIME_IS_UP,
  timeOf,
  VERDICT,
} from '../stories.ts';

const MIB = 2 ** 20;
const ON_DISK = { options: THROTTLING };
const QDEV = '/machine/peripheral/vd0/virtio-backend';

function job(...entries: readonly EntryBody[]): Job {
  return jobWith(ON_DISK, RUNNING, ...entries);
}

function verdict(numbers: Partial<EndVerdict>): EndVerdict {
  return { ...(VERDICT as EndVerdict & EntryBody), ...numbers };
}

function next(numbers: Partial<EndVerdict>, floorBytesPerSecond: number, ...limits: readonly number[]) {
  const endPolicy = { ...POLICY, guestThrottle: { floorBytesPerSecond, maxDurationMs: 1000 } };
  const set = limits.flatMap((limitBytesPerSecond): EntryBody[] => [
    { ...THROTTLE, limitBytesPerSecond },
    { entry: 'throttled', limitBytesPerSecond },
  ]);
  return nextThrottle(jobWith({ options: { endPolicy } }, RUNNING, ...set), verdict(numbers));
}

describe('the first limit', () => {
  it('lets the copy end by its model, with a margin', () => {
    // 2 MiB/s of the guest dirty 32 MiB/s, of which 20 MiB/s are copied: 1.25 MiB/s would be just too much.
    expect(next({}, MIB / 2)).toEqual({ ...THROTTLE, limitBytesPerSecond: Math.floor(0.7 * 1.25 * MIB) });
  });

  it('is the floor if the model wants less, and the copy still ends at the floor', () => {
    expect(next({}, MIB)).toEqual({ ...THROTTLE, limitBytesPerSecond: MIB });
  });

  it('does not exist if the copy would not end at the floor either', () => {
    expect(next({}, 1.2 * MIB)).toMatchObject({
      entry: 'throttle-not-taken',
      failure: {
        reason: 'GUEST_FLOOR_TOO_HIGH',
        metadata: { floorBytes: String(1.2 * MIB), neededBytes: String(0.9 * 1.25 * MIB) },
      },
    });
  });

  it.each<[string, Partial<EndVerdict>]>([
    ['the guest writes nothing', { guestBytesPerSecond: 0, demandBytesPerSecond: 0 }],
    ['nothing is copied', { because: 'NOTHING_COPIED', bytesPerSecond: 0 }],
    ['the copy ends', { because: 'ENDS', convergence: 'CONVERGING' }],
  ])('does not exist if %s: that cannot help', (_why, numbers) => {
    expect(next(numbers, MIB)).toBeUndefined();
  });

  it('does not exist without a request for it', () => {
    expect(nextThrottle(jobWith({ options: { endPolicy: POLICY } }, RUNNING), verdict({}))).toBeUndefined();
    expect(nextThrottle(jobWith({}, RUNNING), verdict({}))).toBeUndefined();
  });
});

describe('a lower limit', () => {
  it('is the half, and not below the floor', () => {
    expect(next({}, 3 * MIB, 8 * MIB)).toEqual({ ...THROTTLE, limitBytesPerSecond: 4 * MIB });
    expect(next({}, 3 * MIB, 8 * MIB, 4 * MIB)).toEqual({ ...THROTTLE, limitBytesPerSecond: 3 * MIB });
  });

  it('does not exist at the floor', () => {
    expect(next({}, 3 * MIB, 3 * MIB)).toBeUndefined();
  });

  it('does not exist if the copy ends, or the storage does not answer', () => {
    expect(next({ because: 'ENDS' }, MIB, 8 * MIB)).toBeUndefined();
    expect(next({ because: 'NOTHING_COPIED' }, MIB, 8 * MIB)).toBeUndefined();
  });

  it('does not exist before the last one is set, or after the time', () => {
    expect(nextThrottle(job(THROTTLE), verdict({}))).toBeUndefined();
    expect(nextThrottle(job(THROTTLE, THROTTLED, TIME_IS_UP), verdict({}))).toBeUndefined();
  });
});

function tooHigh(neededBytes: number): EntryBody {
  return { entry: 'throttle-not-taken', failure: failure('GUEST_FLOOR_TOO_HIGH', { floorBytes: MIB, neededBytes }) };
}

function shared(group: string): EntryBody {
  const why = failure('GUEST_LIMIT_SHARED', { disk: 'vd0', domain: 'vm1', group });
  return { entry: 'throttle-not-taken', failure: why };
}

describe('a guest that is not slowed down', () => {
  it.each<[boolean, string, readonly EntryBody[], EntryBody]>([
    [true, 'a floor that is too high', [VERDICT], tooHigh(1)],
    [false, 'the same floor, with other numbers', [VERDICT, tooHigh(1)], tooHigh(2)],
    [true, 'the same floor, after another verdict', [VERDICT, tooHigh(1), VERDICT], tooHigh(1)],
    [true, 'the limit of another client', [VERDICT, tooHigh(1)], shared('theirs')],
    [false, 'the same limit of another client', [VERDICT, shared('theirs')], shared('theirs')],
    [false, 'the same, after another verdict', [VERDICT, shared('theirs'), VERDICT], shared('theirs')],
    [false, 'both in turn', [VERDICT, shared('theirs'), tooHigh(1)], shared('theirs')],
    [true, 'another limit of another client', [VERDICT, shared('theirs')], shared('others')],
    [true, 'a limit after all', [VERDICT, shared('theirs'), tooHigh(1)], THROTTLE],
  ])('is reported, or not: %s, %s', (isTold, _what, entries, last) => {
    expect(allows(job(...entries), last)).toBe(isTold);
  });

  it('may be slowed down later', () => {
    const later = job(VERDICT, tooHigh(1));
    expect(nextThrottle(later, verdict({}))).toMatchObject({ entry: 'throttle-requested' });
    expect(job(VERDICT, tooHigh(1), THROTTLE).throttle).toMatchObject({ is: 'REQUESTED', since: timeOf(5) });
  });
});

describe('a journal', () => {
  it('shows the limit in force, its group and since when', () => {
    expect(job().throttle).toBeUndefined();
    expect(job(THROTTLE).throttle).toMatchObject({ is: 'REQUESTED', limits: [MIB] });
    const throttled = job(THROTTLE, THROTTLED);
    expect(throttled.throttle).toEqual({ is: 'IN_FORCE', limits: [MIB], since: timeOf(3), sinceMs: undefined });
    expect(isSlowedDown(throttled)).toBe(true);
  });

  it('keeps the first time, and all limits, when the limit is lowered', () => {
    const lowered = job(THROTTLE, THROTTLED, { ...THROTTLE, limitBytesPerSecond: MIB / 2 });
    expect(lowered.throttle).toMatchObject({ is: 'REQUESTED', limits: [MIB, MIB / 2], since: timeOf(3) });
  });

  it('has no limit in force after its time, and a mark until the job is over', () => {
    const after = job(THROTTLE, THROTTLED, TIME_IS_UP);
    expect(after.throttle?.is).toBe('WITHOUT_EFFECT');
    expect(isSlowedDown(after)).toBe(false);
    expect(job(THROTTLE, THROTTLED, TIME_IS_UP, CONCLUDED, LIFTED).throttle?.is).toBe('LIFTED');
  });

  it.each<[string, readonly EntryBody[], EntryBody]>([
    ['a limit without a policy', [], THROTTLE],
    ['a higher limit', [THROTTLE, THROTTLED], { ...THROTTLE, limitBytesPerSecond: 2 * MIB }],
    ['another limit before the first is set', [THROTTLE], { ...THROTTLE, limitBytesPerSecond: 1 }],
    ['another limit after the time', [THROTTLE, THROTTLED, TIME_IS_UP], { ...THROTTLE, limitBytesPerSecond: 1 }],
    ['another limit after the job', [CONCLUDED], THROTTLE],
    ['a limit that nobody requested', [], THROTTLED],
    ['no limit, where there is none', [], LIFTED],
    ['no limit, twice', [THROTTLE, THROTTLED, LIFTED], LIFTED],
    ['the end while the guest is slowed down', [THROTTLE, THROTTLED, CONCLUDED], ended('FAILED')],
    ['the end while the mark is in QEMU', [THROTTLE, THROTTLED, TIME_IS_UP, CONCLUDED], ended('FAILED')],
    ['the end while QEMU may set it', [THROTTLE, CONCLUDED], ended('FAILED')],
  ])('does not take %s', (what, entries, last) => {
    const before = what.endsWith('without a policy') ? jobWith({}, RUNNING) : job(...entries);
    expect(allows(before, last)).toBe(false);
    expect(() => jobWith(what.endsWith('without a policy') ? {} : ON_DISK, RUNNING, ...entries, last)).toThrow(
      IllegalTransition,
    );
  });

  it('takes the end of a job that is given up with its limit: QEMU cannot be asked', () => {
    const GIVEN_UP = { ...CONCLUDED, how: 'GIVEN_UP' } as EntryBody;
    expect(allows(job(THROTTLE, THROTTLED, FORCE, GIVEN_UP), ended('UNRESOLVED'))).toBe(true);
    const left = job(THROTTLE, THROTTLED, CONCLUDED, { entry: 'give-up-requested' });
    expect(allows(left, ended('CANCELLED'))).toBe(true);
  });

  it('takes a limit without a policy if the journal before is lost: QEMU has it', () => {
    expect(allows(jobWith({ recovered: true }, RUNNING), THROTTLE)).toBe(true);
  });

  it('is kept while the limit of an ended job may be in QEMU', () => {
    expect(knownOf(job(THROTTLE, THROTTLED, READY)).throttle?.limits).toEqual([MIB]);
    expect(knownOf(job(THROTTLE, THROTTLED, CONCLUDED, LIFTED)).throttle).toBeUndefined();
  });
});

describe('the limits of a disk', () => {
  const OURS: DiskLimits = { qdev: QDEV, group: JOB, limits: { bps_wr: MIB } };
  const others = (more: Partial<DiskLimits>): DiskLimits => ({
    qdev: QDEV,
    group: 'theirs',
    limits: { iops: 5 },
    ...more,
  });

  it('do not refuse ours if there are none, or only those of this job', () => {
    expect(refusedThrottle(undefined, job())).toBeUndefined();
    expect(refusedThrottle({ qdev: QDEV, group: undefined, limits: {} }, job())).toBeUndefined();
    expect(refusedThrottle(OURS, job(THROTTLE, THROTTLED))).toBeUndefined();
  });

  it.each<[string, DiskLimits]>([
    ['a group of another client', others({})],
    ['the group of another job', others({ group: 'bj00000000000000ff', limits: { bps_wr: MIB } })],
    ['in our group, another kind of limit', { ...OURS, limits: { bps_wr: MIB, iops: 1 } }],
    ['in our group, another limit than ours', { ...OURS, limits: { bps_wr: 7 } }],
  ])('refuse ours if they are of another client: %s', (_what, limits) => {
    expect(refusedThrottle(limits, job(THROTTLE, THROTTLED))).toMatchObject({ reason: 'GUEST_LIMIT_SHARED' });
  });

  const throttled = job(THROTTLE, THROTTLED);
  const lifted = job(THROTTLE, THROTTLED, { ...LIFTED, because: 'CHANGED' }, CONCLUDED, ended('FAILED'));
  const givenUp = job(THROTTLE, THROTTLED, FORCE, { ...CONCLUDED, how: 'GIVEN_UP' } as EntryBody, ended('UNRESOLVED'));
  it.each<[boolean, string, DiskLimits, Job | undefined]>([
    [true, 'the journal is lost', OURS, undefined],
    [
      false,
      'the journal is lost, and another client has set a limit beside it',
      { ...OURS, limits: { iops: 1 } },
      undefined,
    ],
    [false, 'the job goes on: its driver decides', OURS, throttled],
    [true, 'the job was given up', OURS, givenUp],
    [true, 'the job was given up, with a limit without effect', { ...OURS, limits: { bps_wr: NO_EFFECT } }, givenUp],
    [
      false,
      'the job was given up, and another client has changed the limit',
      { ...OURS, limits: { bps_wr: 7 } },
      givenUp,
    ],
    [false, 'the job has ended, and the limit is that of another client', OURS, lifted],
    [false, 'it has no mark', others({ group: undefined }), undefined],
    [false, 'the mark is not that of a job', others({ group: 'bj1', limits: { bps_wr: 1 } }), undefined],
  ])('must be taken away: %s, %s', (isTo, _what, limits, known) => {
    expect(isToBeTakenAway(limits, known && knownOf(known))).toBe(isTo);
  });
});
