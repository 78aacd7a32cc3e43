/** How fast a job copies, from its looks. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Pace } from '../../../src/agent/pace.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => void vi.useRealTimers());

const MIB = 1 << 20;
const BUFFER = 16 * MIB;

function paced(...looks: readonly (readonly [afterMs: number, copiedMib: number, remainingMib: number])[]): Pace {
  const pace = new Pace();
  for (const [afterMs, copied, remaining] of looks) {
    vi.advanceTimersByTime(afterMs);
    pace.see({ copiedBytes: copied * MIB, remainingBytes: remaining * MIB });
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
  expect(paced(...looks).underWayMs(BUFFER)).toBe(ms);
});

test('it is still while nothing is left and nothing is copied', () => {
  const pace = paced([0, 5, 0], [100, 5, 0], [900, 5, 0]);
  expect(pace.stillMs).toBe(900);
  pace.see({ copiedBytes: 6 * MIB, remainingBytes: 0 });
  expect(pace.stillMs).toBe(0);
});
