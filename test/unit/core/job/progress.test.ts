import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  finished,
  NO_HISTORY,
  observe,
  type Progress,
  type Sample,
  verifying,
} from '../../../../src/core/job/progress.ts';

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

/** Copied and total bytes, at one sample a second. */
const series = (...pairs: readonly (readonly [offsetBytes: number, lengthBytes: number])[]) =>
  pairs.map(([offsetBytes, lengthBytes]) => ({ offsetBytes, lengthBytes }));

const bytes = fc.nat({ max: 2 ** 50 });
/** As QEMU reports: time goes on, READY stays, and the numbers may be anything. */
const anySeries = fc
  .tuple(
    fc.array(fc.record({ gapMs: fc.nat({ max: 20_000 }), offsetBytes: bytes, lengthBytes: bytes }), {
      minLength: 1,
      maxLength: 30,
    }),
    fc.nat({ max: 30 }),
  )
  .map(([steps, readyFrom]) => {
    let atMs = 0;
    return steps.map(({ gapMs, offsetBytes, lengthBytes }, index): Partial<Sample> => {
      atMs += gapMs;
      return { atMs, offsetBytes, lengthBytes, ready: index >= readyFrom };
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
          for (const value of [bytesPerSecond, dirtyBytesPerSecond, remainingBytes, etaMs]) {
            expect(Number.isFinite(value)).toBe(true);
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

  it("include the guest's writes, and give an ETA by the difference", () => {
    expect(lastOf(...series([0, 100 * MIB], [10 * MIB, 105 * MIB]))).toMatchObject({
      bytesPerSecond: 10 * MIB,
      dirtyBytesPerSecond: 5 * MIB,
      remainingBytes: 95 * MIB,
      etaMs: 19_000,
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
    expect(found).toMatchObject({ bytesPerSecond: 0, dirtyBytesPerSecond: 0, convergence: undefined });
    expect(later).toMatchObject({ bytesPerSecond: 2 * MIB, dirtyBytesPerSecond: MIB, convergence: 'CONVERGING' });
  });

  it('exist when samples are further apart than five seconds', () => {
    const [, second] = progressOf(
      { atMs: 0, offsetBytes: 0, lengthBytes: 100 * MIB },
      { atMs: 10_000, offsetBytes: 10 * MIB, lengthBytes: 100 * MIB },
    );
    expect(second).toMatchObject({ bytesPerSecond: MIB, etaMs: 90_000 });
  });
});

describe('an ETA', () => {
  it.each([
    ['nothing is known yet', series([0, 100])],
    ['nothing is copied', series([10, 100], [10, 100])],
    ['the guest writes as fast', series([10, 100], [20, 110])],
    ['the guest writes faster', series([10, 100], [20, 200])],
    ['the rest stays within a twentieth of the rate', series([0, 1000], [100, 1095])],
  ])('is absent while %s', (_why, samples) => {
    expect(lastOf(...samples).etaMs).toBeUndefined();
  });
});

describe('of a job that has done its work', () => {
  it('nothing remains, and the totals and the time are the measured ones', () => {
    const last = lastOf(...series([0, 1000], [400, 1000]));
    expect(finished(last)).toEqual({
      ...last,
      currentBytes: last.endBytes,
      percent: 100,
      remainingBytes: 0,
      etaMs: 0,
      convergence: 'SETTLED',
    });
    expect(last.percent).toBeLessThan(100);
  });
});

const rest = (...offsetsAndLengths: readonly (readonly [number, number])[]) =>
  lastOf(...series(...offsetsAndLengths)).convergence;

describe('convergence', () => {
  it('is not known before two samples', () => {
    expect(rest([0, 1000])).toBeUndefined();
    expect(verifying(1, 2, '').convergence).toBeUndefined();
  });

  it('is CONVERGING while the remaining bytes shrink', () => {
    expect(rest([0, 1000], [100, 1000])).toBe('CONVERGING');
    expect(rest([0, 1000], [100, 1090])).toBe('CONVERGING');
  });

  it('is STALLED while the remaining bytes stay within a twentieth of the rate', () => {
    expect(rest([0, 1000], [100, 1095])).toBe('STALLED');
    expect(rest([0, 1000], [100, 1105])).toBe('STALLED');
    expect(rest([0, 1000], [0, 1000])).toBe('STALLED');
  });

  it('is DIVERGING when the guest writes faster than the copy follows', () => {
    expect(rest([0, 1000], [100, 1106])).toBe('DIVERGING');
  });

  it('is SETTLED when READY, however much the guest writes', () => {
    expect(lastOf({ lengthBytes: 1000 }, { offsetBytes: 10, lengthBytes: 9000, ready: true }).convergence).toBe(
      'SETTLED',
    );
  });
});
