import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Job } from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import {
  NO_HISTORY,
  observe,
  type Progress,
  progressShown,
  type Sample,
  verifying,
} from '../../../../src/core/job/progress.ts';
import { jobOf, jobWith, POLICY, PULL, pivot, policyStep, READY, RUNNING } from '../stories.ts';

const MIB = 1_048_576;

/** The result of each sample of a series. */
function progressOf(...samples: readonly Partial<Sample>[]): Progress[] {
  const found: Progress[] = [];
  let history = NO_HISTORY;
  for (const [index, sample] of samples.entries()) {
    const whole = { atMs: index * 1000, time: '', offsetBytes: 0, lengthBytes: 0, ready: false, ...sample };
    const observed = observe(history, whole);
    history = observed.history;
    found.push(observed.progress);
  }
  return found;
}

function lastOf(...samples: readonly Partial<Sample>[]): Progress {
  const last = progressOf(...samples).at(-1);
  if (last === undefined) throw new Error('a series without samples');
  return last;
}

const withPolicy = (...steps: readonly EntryBody[]) => jobWith({ options: { endPolicy: POLICY } }, RUNNING, ...steps);

/** Copied and total bytes, at one sample a second. */
const series = (...pairs: readonly (readonly [offsetBytes: number, lengthBytes: number])[]) =>
  pairs.map(([offsetBytes, lengthBytes]) => ({ offsetBytes, lengthBytes }));

const bytes = fc.nat({ max: 2 ** 50 });
const anyGuest = fc.option(fc.record({ operations: fc.nat(), bytes: fc.nat() }), { nil: undefined });
/** As QEMU reports: time goes on, READY stays, and the numbers may be anything. */
const anySeries = fc
  .tuple(
    fc.array(fc.record({ gapMs: fc.nat({ max: 20_000 }), offsetBytes: bytes, lengthBytes: bytes, guest: anyGuest }), {
      minLength: 1,
      maxLength: 30,
    }),
    fc.nat({ max: 30 }),
  )
  .map(([steps, readyFrom]) => {
    let atMs = 0;
    return steps.map(({ gapMs, offsetBytes, lengthBytes, guest }, index): Partial<Sample> => {
      atMs += gapMs;
      const window = { guest, granularityBytes: 65_536, limitBytesPerSecond: 0, isPaused: false };
      return { atMs, offsetBytes, lengthBytes, ready: index >= readyFrom, window };
    });
  });

describe('progress, whatever QEMU says,', () => {
  it('has a percentage from 0 to 100 that never goes back and is 100 exactly when READY', () => {
    fc.assert(
      fc.property(anySeries, (samples) => {
        let before = 0;
        for (const [index, { percent }] of progressOf(...samples).entries()) {
          expect(percent).toBeGreaterThanOrEqual(before);
          expect(percent === 100).toBe(samples[index]?.ready);
          expect(percent).toBeLessThanOrEqual(100);
          before = percent;
        }
      }),
    );
  });

  it('has current equal to end only when READY, never above it, and an end of at least 1', () => {
    fc.assert(
      fc.property(anySeries, (samples) => {
        for (const [index, { currentBytes, endBytes }] of progressOf(...samples).entries()) {
          expect(endBytes).toBeGreaterThanOrEqual(1);
          expect(currentBytes).toBeGreaterThanOrEqual(0);
          expect(currentBytes).toBeLessThanOrEqual(endBytes);
          expect(samples[index]?.ready === true || currentBytes < endBytes).toBe(true);
        }
      }),
    );
  });

  it('has rates, remaining bytes and an ETA that are numbers, none below 0', () => {
    fc.assert(
      fc.property(anySeries, (samples) => {
        for (const progress of progressOf(...samples)) {
          const { bytesPerSecond, dirtyBytesPerSecond, remainingBytes, etaMs = 0 } = progress;
          const { floorBytes, demandBytesPerSecond, guestBytesPerSecond, guestWriteBytes } = progress;
          const ofVerdict = [floorBytes, demandBytesPerSecond, guestBytesPerSecond, guestWriteBytes];
          for (const value of [bytesPerSecond, dirtyBytesPerSecond, remainingBytes, etaMs, ...ofVerdict]) {
            expect(Number.isInteger(value), JSON.stringify(progress)).toBe(true);
            expect(value).toBeGreaterThanOrEqual(0);
          }
        }
      }),
    );
  });

  it('has an ETA where it converges or is READY, and only there', () => {
    fc.assert(
      fc.property(anySeries, (samples) => {
        for (const { etaMs, convergence = 'UNSPECIFIED' } of progressOf(...samples))
          expect(etaMs !== undefined).toBe(['CONVERGING', 'SETTLED'].includes(convergence));
      }),
    );
  });
});

describe('current and end', () => {
  it.each<[string, Partial<Sample>, Partial<Progress>]>([
    ['0 of 0 is not begun', {}, { currentBytes: 0, endBytes: 1, percent: 0, remainingBytes: 0 }],
    ['0 of 0, READY, is all', { ready: true }, { currentBytes: 1, endBytes: 1, percent: 100, remainingBytes: 0 }],
    [
      'caught up without READY is one byte short',
      { offsetBytes: 100, lengthBytes: 100 },
      { currentBytes: 99, endBytes: 100, percent: 99 },
    ],
    [
      'an offset beyond the length is no more than that',
      { offsetBytes: 150, lengthBytes: 100 },
      { currentBytes: 99, endBytes: 100, remainingBytes: 0 },
    ],
    [
      'almost all of much is not rounded to all',
      { offsetBytes: 2 ** 50 - 1, lengthBytes: 2 ** 50 },
      { percent: 99.9, remainingBytes: 1 },
    ],
    ['a third is rounded down', { offsetBytes: 2, lengthBytes: 3 }, { percent: 66.6, remainingBytes: 1 }],
    [
      'READY, the guest having just written, is not equal',
      { offsetBytes: 90, lengthBytes: 100, ready: true },
      { currentBytes: 90, endBytes: 100, percent: 100, remainingBytes: 10 },
    ],
  ])('%s', (_name, sample, expected) => {
    expect(lastOf(sample)).toMatchObject(expected);
  });

  it('let the percentage stay when the guest makes more to copy', () => {
    expect(progressOf(...series([50, 100], [60, 200], [190, 200])).map(({ percent }) => percent)).toEqual([50, 50, 95]);
  });
});

describe('rates', () => {
  it('are those of the last five seconds', () => {
    const slowThenFast = series(
      ...Array.from({ length: 21 }, (_, at) => [at < 10 ? at : 10 + (at - 10) * MIB, 100 * MIB] as const),
    );
    expect(lastOf(...slowThenFast)).toMatchObject({ bytesPerSecond: MIB, dirtyBytesPerSecond: 0 });
  });

  it("include the guest's writes", () => {
    expect(lastOf(...series([0, 100 * MIB], [10 * MIB, 105 * MIB]))).toMatchObject({
      bytesPerSecond: 10 * MIB,
      dirtyBytesPerSecond: 5 * MIB,
      remainingBytes: 95 * MIB,
    });
  });

  it('are 0 at the first sample, and when two samples have the same time', () => {
    expect(lastOf({ offsetBytes: 5, lengthBytes: 10 })).toMatchObject({ bytesPerSecond: 0, etaMs: undefined });
    const same = { atMs: 7, lengthBytes: 10 };
    expect(lastOf({ ...same, offsetBytes: 1 }, { ...same, offsetBytes: 5 })).toMatchObject({ bytesPerSecond: 0 });
  });

  // An interval may be as long as an hour.
  it('do not count data that QEMU finds at the start as writes of the guest', () => {
    const [, found, later] = progressOf(...series([0, 0], [MIB, 100 * MIB], [3 * MIB, 101 * MIB]));
    expect(found).toMatchObject({ bytesPerSecond: 0, dirtyBytesPerSecond: 0 });
    expect(later).toMatchObject({ bytesPerSecond: 2 * MIB, dirtyBytesPerSecond: MIB });
  });

  it('exist when samples are further apart than five seconds', () => {
    const [, second] = progressOf(
      { atMs: 0, offsetBytes: 0, lengthBytes: 100 * MIB },
      { atMs: 10_000, offsetBytes: 10 * MIB, lengthBytes: 100 * MIB },
    );
    expect(second).toMatchObject({ bytesPerSecond: MIB });
  });
});

const IDLE = { granularityBytes: 65_536, limitBytesPerSecond: 0, isPaused: false, guest: { operations: 0, bytes: 0 } };

/** A window every two seconds. */
const windows = (...samples: readonly Partial<Sample>[]) =>
  samples.map((sample, index) => ({ atMs: index * 2000, lengthBytes: 100 * MIB, window: IDLE, ...sample }));

const [NONE, SOME, MORE] = [{ offsetBytes: 0 }, { offsetBytes: 10 * MIB }, { offsetBytes: 20 * MIB }];

describe('convergence and ETA', () => {
  it('are not known before two windows, nor without windows', () => {
    expect(progressOf(...windows(NONE, SOME, MORE)).map(({ convergence }) => convergence)).toEqual([
      undefined,
      undefined,
      'CONVERGING',
    ]);
    expect(lastOf(...series([0, 1000], [100, 1000], [200, 1000], [300, 1000])).convergence).toBeUndefined();
    expect(verifying(1, 2, '')).toMatchObject({ convergence: undefined, phase: 'PREPARING' });
  });

  it('are those of the last window at each look between', () => {
    const between = { atMs: 4500, offsetBytes: 30 * MIB, window: undefined };
    expect(lastOf(...windows(NONE, SOME, MORE, between))).toMatchObject({ convergence: 'CONVERGING', etaMs: 14_000 });
  });

  it('begin again after a pause', () => {
    const paused = { offsetBytes: 20 * MIB, window: { ...IDLE, isPaused: true } };
    const found = progressOf(...windows(NONE, SOME, MORE, paused, MORE, { offsetBytes: 25 * MIB }));
    expect(found.slice(2).map(({ etaMs }) => etaMs)).toEqual([16_000, undefined, undefined, undefined]);
  });

  it('are those of a copy in step once it is READY with nothing left, at once', () => {
    const ready = { offsetBytes: 100 * MIB, ready: true };
    expect(lastOf(...windows(ready))).toMatchObject({ convergence: 'SETTLED', etaMs: 0, reason: '' });
    expect(lastOf(...windows(NONE, SOME, MORE, ready))).toMatchObject({ convergence: 'SETTLED', etaMs: 0 });
  });

  it('are not those of a copy in step while more is left than a second copies', () => {
    const ready = { offsetBytes: 30 * MIB, ready: true };
    expect(lastOf(...windows(NONE, SOME, MORE, ready))).toMatchObject({ convergence: 'CONVERGING', etaMs: 14_000 });
  });
});

const of = (sample: Partial<Sample>) => lastOf({ lengthBytes: 1000, ...sample });

describe('the progress that is shown', () => {
  it('of a job that has done its work has nothing left, and the measured totals and time', () => {
    const last = lastOf(...series([0, 1000], [400, 1000]));
    const completed = { ...jobOf(), state: 'COMPLETED' } as const;
    expect(progressShown(completed, last, '')).toEqual({
      ...last,
      currentBytes: last.endBytes,
      percent: 100,
      remainingBytes: 0,
      etaMs: 0,
      convergence: 'SETTLED',
    });
  });

  it('of a job that failed has no verdict, and no ETA', () => {
    const failed = { ...jobOf(RUNNING), state: 'FAILED' } as const;
    expect(progressShown(failed, lastOf(...windows(NONE, SOME, MORE)), '')).toMatchObject({
      convergence: undefined,
      etaMs: undefined,
    });
  });

  it('is not 100 % before the journal says READY', () => {
    const measured = of({ offsetBytes: 1000, ready: true });
    expect(measured.percent).toBe(100);
    expect(progressShown(jobOf(RUNNING), measured, '')).toMatchObject({
      percent: 99.9,
      currentBytes: 999,
      phase: 'COPYING',
    });
    expect(progressShown(jobOf(RUNNING, READY), measured, '')).toMatchObject({ percent: 100, phase: 'FOLLOWING' });
  });

  it('of a job that does not end has the steps of its end policy in its reason', () => {
    const stalled: Progress = {
      ...lastOf(...windows(NONE, SOME, MORE)),
      convergence: 'STALLED',
      reason: 'will not end',
    };
    const reasonOf = (one: Job, progress = stalled) => progressShown(one, progress, '').reason;
    expect(reasonOf(jobOf(RUNNING))).toBe('will not end');
    expect(reasonOf(withPolicy())).toBe('will not end; steps of the end policy so far: none');
    expect(reasonOf(withPolicy(policyStep('LIMIT'), policyStep('BLOCKING')))).toBe(
      'will not end; steps of the end policy so far: LIMIT, BLOCKING',
    );
    expect(reasonOf(withPolicy(), { ...stalled, convergence: 'CONVERGING', reason: 'ends' })).toBe('ends');
  });

  it('of a paused job is STALLED, without an ETA', () => {
    const measured = lastOf(...windows(NONE, SOME, MORE));
    expect(measured.etaMs).toBeDefined();
    expect(progressShown(jobOf(RUNNING, { entry: 'paused', reason: 'USER' }), measured, '')).toMatchObject({
      convergence: 'STALLED',
      etaMs: undefined,
      reason: expect.stringContaining('paused'),
    });
  });

  it('tells zeroing from the preparation of a job that does not zero', () => {
    const none = of({ lengthBytes: 0 });
    expect(progressShown(jobOf(RUNNING), none, '').phase).toBe('ZEROING');
    expect(progressShown(jobWith(PULL, RUNNING), none, '').phase).toBe('PREPARING');
  });

  it('says what an end waits for', () => {
    const job = jobOf(RUNNING, READY, pivot());
    expect(progressShown(job, of({ offsetBytes: 10, ready: true }), 'the remaining data').reason).toBe(
      'waits for the remaining data',
    );
  });
});
