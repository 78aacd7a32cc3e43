import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { retryGivenUpInMs, retryInMs } from '../../../src/qmp/back-off.ts';

it('the wait doubles from 100 ms to 5 s', () => {
  const waits = Array.from({ length: 8 }, (_, failures) => retryInMs(failures, 0));
  expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
});

it('up to half of the wait is random, after any number of failures', () => {
  fc.assert(
    fc.property(fc.nat(), fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), (failures, random) => {
      const fullMs = retryInMs(failures, 0);
      expect(retryInMs(failures, random)).toBeGreaterThanOrEqual(fullMs / 2);
      expect(retryInMs(failures, random)).toBeLessThanOrEqual(fullMs);
    }),
  );
});

it('a socket that has been given up is left alone for two and a half minutes at least', () => {
  expect(retryGivenUpInMs(0)).toBe(300_000);
  expect(retryGivenUpInMs(0.999)).toBeGreaterThanOrEqual(150_000);
});
