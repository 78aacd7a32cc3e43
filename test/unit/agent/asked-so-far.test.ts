import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { AskedSoFar, HOLD_LIMIT_MS } from '../../../src/agent/asked-so-far.ts';
import { HELD, jobOf, RUNNING } from '../core/stories.ts';

const FREE = jobOf(RUNNING);
const PAUSED = jobOf(RUNNING, HELD);

describe('a guest that was held', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  test.each([10, HOLD_LIMIT_MS])('for %d ms gets four times as long for its work', (heldMs) => {
    const asked = new AskedSoFar();
    expect(asked.now(FREE, 1).restsFromHold).toBe(false);
    asked.now(PAUSED, 1);
    vi.advanceTimersByTime(heldMs);
    expect(asked.now(FREE, 1).restsFromHold).toBe(true);
    vi.advanceTimersByTime(4 * heldMs - 1);
    expect(asked.now(FREE, 1).restsFromHold).toBe(true);
    vi.advanceTimersByTime(1);
    expect(asked.now(FREE, 1).restsFromHold).toBe(false);
  });
});
