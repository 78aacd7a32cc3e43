/** How fast a job copies, from its looks. */
import { expect, test } from 'vitest';
import { NO_PACE, type Pace, paceAfter, underWayMs } from '../../../../src/core/moves/pace.ts';

const MIB = 1 << 20;
const BUFFER = 16 * MIB;

function paced(...looks: readonly (readonly [afterMs: number, copiedMib: number, remainingMib: number])[]): Pace {
  let [pace, nowMs] = [NO_PACE, 0];
  for (const [afterMs, copied, remaining] of looks) {
    nowMs += afterMs;
    pace = paceAfter(pace, { copiedBytes: copied * MIB, remainingBytes: remaining * MIB }, nowMs);
  }
  return pace;
}

test.each([
  ['nothing is left', [[0, 5, 0]], 0],
  ['one look tells no pace', [[0, 5, 1]], undefined],
  [
    'two that are close do not, either',
    [
      [0, 5, 1],
      [249, 6, 1],
    ],
    undefined,
  ],
  [
    'nor do two that are far apart',
    [
      [0, 5, 1],
      [3000, 6, 1],
    ],
    undefined,
  ],
  [
    '20 MiB a second, 1 left',
    [
      [0, 5, 1],
      [250, 10, 1],
    ],
    50,
  ],
  [
    'a buffer at most is under way',
    [
      [0, 5, 900],
      [250, 10, 900],
    ],
    800,
  ],
  [
    'a destination that hangs',
    [
      [0, 5, 1],
      [250, 5, 1],
    ],
    Infinity,
  ],
  [
    'one that hangs since',
    [
      [0, 5, 1],
      [250, 6, 1],
      [250, 6, 1],
    ],
    Infinity,
  ],
] as const)('how long what is under way will take: %s', (_what, looks, ms) => {
  expect(underWayMs(paced(...looks), BUFFER)).toBe(ms);
});

test('a job stands still while nothing remains and nothing is copied', () => {
  const pace = paced([0, 5, 0], [100, 5, 0], [900, 5, 0]);
  expect(pace.stillSinceMs).toBe(100);
  expect(paceAfter(pace, { copiedBytes: 6 * MIB, remainingBytes: 0 }, 1000).stillSinceMs).toBe(undefined);
});
