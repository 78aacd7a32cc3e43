import { expect, it } from 'vitest';
import { granularityFor } from '../../../../src/core/plans/granularity.ts';

const KIB = 1024;

it.each<[what: string, writes: number, writeBytes: number, expected: number | undefined]>([
  ['of a sector', 1000, 512, 4 * KIB],
  ['of 4 KiB', 1000, 4 * KIB, 4 * KIB],
  ['of a little more', 1000, 4 * KIB + 1, 8 * KIB],
  ['of 8 KiB', 1000, 8 * KIB, 8 * KIB],
  ['of 16 KiB', 1000, 16 * KIB, 16 * KIB],
  ['of almost 32 KiB', 1000, 32 * KIB - 1, 16 * KIB],
  ['of 32 KiB', 1000, 32 * KIB, undefined],
  ['of 1 MiB', 1000, 1024 * KIB, undefined],
  ['of 4 KiB, just enough of them', 256, 4 * KIB, 4 * KIB],
  ['of 4 KiB, too few of them', 255, 4 * KIB, undefined],
  ['of which there are none', 0, 0, undefined],
])('the unit for writes %s', (_what, writes, writeBytes, expected) => {
  const chosen = granularityFor({ operations: writes, bytes: writes * writeBytes });
  const found = expected === undefined ? undefined : { granularityBytes: expected, writes, writeBytes };
  expect(chosen).toEqual(found);
});
