import { getEventListeners } from 'node:events';
import * as fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Lane } from '../../../src/lib/lane.ts';
import { abortAfter, Timer } from '../../../src/lib/timer.ts';
import { LinkedAbort, Wake } from '../../../src/lib/wake.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('a timer', () => {
  const DAY_MS = 24 * 60 * 60 * 1000;

  it.each([1, 2 ** 31 - 1, 2 ** 31, 25 * DAY_MS, 600 * DAY_MS])('of %d ms fires then, and not before', (afterMs) => {
    vi.useFakeTimers();
    let fired = 0;
    using _timer = new Timer(() => {
      fired += 1;
    }, afterMs);
    vi.advanceTimersByTime(afterMs - 1);
    expect(fired).toBe(0);
    vi.advanceTimersByTime(1);
    expect(fired).toBe(1);
    vi.advanceTimersByTime(100 * DAY_MS);
    expect(fired).toBe(1);
  });

  it('of infinity never fires, and one that is disposed of does not either', () => {
    vi.useFakeTimers();
    let fired = 0;
    const fire = () => {
      fired += 1;
    };
    using _never = new Timer(fire, Infinity);
    const disposed = new Timer(fire, 30 * DAY_MS);
    vi.advanceTimersByTime(29 * DAY_MS);
    disposed[Symbol.dispose]();
    vi.advanceTimersByTime(100 * DAY_MS);
    expect(fired).toBe(0);
    expect(vi.getTimerCount()).toBe(1);
  });

  it('is used by a wait and a signal, so that a long one is not over at once', async () => {
    const [wake, long] = [new Wake(), abortAfter(600 * DAY_MS)];
    const waited = wake.after(wake.now, { timeoutMs: 600 * DAY_MS }).then(() => 'over');
    const soon = new Promise((resolve) => void setTimeout(resolve, 20, 'not yet'));
    expect(await Promise.race([waited, soon])).toBe('not yet');
    expect(long.aborted).toBe(false);
    wake.notify();
    await waited;
  });
});

describe('a wake', () => {
  it('wakes each waiter at a change', async () => {
    const wake = new Wake();
    const waiting = Promise.all([wake.after(wake.now), wake.after(wake.now), wake.after(wake.now)]);
    wake.notify();
    expect(await waiting).toHaveLength(3);
  });

  it('lets nobody wait for a change that came between the look and the wait', async () => {
    const wake = new Wake();
    const before = wake.now;
    wake.notify();
    await expect(wake.after(before)).resolves.toBeUndefined();
    wake.notify();
    await expect(wake.after(before)).resolves.toBeUndefined();
  });

  it('never lets a reader miss a value, however looks and changes fall', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.integer({ min: 1, max: 8 }), async (scheduler, last) => {
        const wake = new Wake();
        let value = 0;
        const reader = (async () => {
          for (;;) {
            const before = wake.now;
            const seen = value;
            if (seen === last) return seen;
            await scheduler.schedule(Promise.resolve());
            await wake.after(before);
          }
        })();
        for (let next = 1; next <= last; next += 1) {
          void scheduler.schedule(Promise.resolve()).then(() => {
            value += 1;
            wake.notify();
          });
        }
        await scheduler.waitFor(reader);
        expect(await reader).toBe(last);
      }),
    );
  });

  it('is not woken by the change that woke it before', async () => {
    const wake = new Wake();
    wake.notify();
    let woken = false;
    const waiting = wake.after(wake.now).then(() => {
      woken = true;
    });
    await Promise.resolve();
    expect(woken).toBe(false);
    wake.notify();
    await waiting;
  });

  it('lets a waiter wait again while it is being woken', async () => {
    const wake = new Wake();
    const again = wake.after(wake.now).then(async () => await wake.after(wake.now));
    wake.notify();
    await Promise.resolve();
    await Promise.resolve();
    setImmediate(() => wake.notify());
    await expect(again).resolves.toBeUndefined();
  });

  it('ends a wait in time', async () => {
    vi.useFakeTimers();
    const wake = new Wake();
    const waiting = wake.after(wake.now, { timeoutMs: 1000 });
    await vi.advanceTimersByTimeAsync(999);
    expect(vi.getTimerCount()).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    await waiting;
  });

  it('ends a wait at an abort, also one that came before it', async () => {
    const wake = new Wake();
    const controller = new AbortController();
    const waiting = wake.after(wake.now, { signal: controller.signal });
    controller.abort();
    await expect(waiting).resolves.toBeUndefined();
    await expect(wake.after(wake.now, { signal: controller.signal })).resolves.toBeUndefined();
  });

  it.each(['change', 'abort', 'time-out'])('leaves no timer and no listener behind after a %s', async (how) => {
    vi.useFakeTimers();
    const wake = new Wake();
    const controller = new AbortController();
    const waiting = wake.after(wake.now, { signal: controller.signal, timeoutMs: 1000 });
    if (how === 'change') wake.notify();
    else if (how === 'abort') controller.abort();
    else await vi.advanceTimersByTimeAsync(1000);
    await waiting;
    expect(vi.getTimerCount()).toBe(0);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });
});

describe('a listener of a wake', () => {
  it('hears of each change until it is disposed of', () => {
    const wake = new Wake();
    let changes = 0;
    const listening = wake.onChange(() => {
      changes += 1;
    });
    wake.notify();
    wake.notify();
    listening[Symbol.dispose]();
    wake.notify();
    expect(changes).toBe(2);
  });
});

describe('a linked abort', () => {
  it('is aborted by the outer signal, and by its own end', () => {
    const outer = new AbortController();
    const first = new LinkedAbort(outer.signal);
    const second = new LinkedAbort(outer.signal);
    first[Symbol.dispose]();
    expect([first.signal.aborted, second.signal.aborted, outer.signal.aborted]).toEqual([true, false, false]);
    outer.abort();
    expect(second.signal.aborted).toBe(true);
    expect(new LinkedAbort(outer.signal).signal.aborted).toBe(true);
  });
});

describe('a lane', () => {
  it('runs one task at a time, in the order of the requests', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.integer({ min: 1, max: 10 }), async (scheduler, count) => {
        const lane = new Lane();
        const events: string[] = [];
        const all = Promise.all(
          Array.from(
            { length: count },
            async (_, index) =>
              await lane.run(async () => {
                events.push(`${index} begins`);
                await scheduler.schedule(Promise.resolve());
                events.push(`${index} ends`);
              }),
          ),
        );
        await scheduler.waitFor(all);
        expect(events).toEqual(
          Array.from({ length: count }, (_, index) => [`${index} begins`, `${index} ends`]).flat(),
        );
      }),
    );
  });

  it('returns each result, and continues after a task that failed', async () => {
    const lane = new Lane();
    const results = await Promise.allSettled([
      lane.run(async () => 1),
      lane.run(async () => await Promise.reject(new Error('no'))),
      lane.run(() => {
        throw new Error('at once');
      }),
      lane.run(async () => 4),
    ]);
    expect(results.map((one) => (one.status === 'fulfilled' ? one.value : String(one.reason)))).toEqual([
      1,
      'Error: no',
      'Error: at once',
      4,
    ]);
  });
});
