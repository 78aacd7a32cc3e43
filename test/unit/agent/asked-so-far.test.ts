/* oxlint-disable unicorn/consistent-function-scoping */

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { AskedSoFar, HOLD_LIMIT_MS } from '../../../src/agent/asked-so-far.ts';
import { HostClock } from '../../../src/agent/host-clock.ts';
import type { Job } from '../../../src/core/job.ts';
import type { AcceptedDestination } from '../../../src/core/journal-entry.ts';
import type { Seen } from '../../../src/core/next-move.ts';
import { present } from '../../support/checks.ts';
import { FORCE, HELD, jobOf, jobWith, pivot, READY, RUNNING, SEEN_AT, SOURCE } from '../core/stories.ts';

const FREE = jobOf(RUNNING);
const PAUSED = jobOf(RUNNING, HELD);
const NBD: AcceptedDestination = {
  node: 'n',
  path: 'nbd://host:1/e',
  format: 'RAW',
  target: {
    kind: 'nbd',
    nbd: { server: { kind: 'tcp', host: 'host', port: 1 }, exportName: 'e', tlsCredentialsId: '', tlsHostname: '' },
  },
};

describe('a guest that was held', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  test.each([10, HOLD_LIMIT_MS])('for %d ms gets four times as long for its work', (heldMs) => {
    const asked = new AskedSoFar(new HostClock());
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

describe('an end by force', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  test.each([
    ['over the network is asked for again, and so is the yank', jobWith({ destination: NBD }, RUNNING, FORCE), false],
    ['of a file is asked for once', jobOf(RUNNING, FORCE), true],
  ] as const)('%s', (_name, job, stays) => {
    const asked = new AskedSoFar(new HostClock());
    asked.now(job, 1);
    asked.add('yank');
    asked.add('forceEnd');
    vi.advanceTimersByTime(2000);
    expect(asked.now(job, 1)).toMatchObject({ yank: true, forceEnd: true });
    vi.advanceTimersByTime(1);
    expect(asked.now(job, 1)).toMatchObject({ yank: stays, forceEnd: stays });
  });
});

test('a copy over the network is looked at every two seconds: no event tells that its server hangs', () => {
  expect(new AskedSoFar(new HostClock()).lookAgainMs(jobWith({ destination: NBD }, RUNNING, READY))).toBe(2000);
  expect(new AskedSoFar(new HostClock()).lookAgainMs(jobOf(RUNNING, READY))).toBe(undefined);
});

describe('what QEMU refuses', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  test('is asked for again at once for two seconds, and then each five; it is news when the words are', () => {
    const asked = new AskedSoFar(new HostClock());
    const isAsked = () => asked.now(FREE, 1).resume;
    const refuse = (words = 'not paused') => {
      asked.add('resume');
      return asked.refuse('resume', words);
    };
    isAsked();
    expect(refuse()).toBe(true);
    vi.advanceTimersByTime(2000);
    expect([refuse(), isAsked()]).toEqual([false, false]);
    vi.advanceTimersByTime(1);
    expect([refuse(), isAsked()]).toEqual([false, true]);
    // Nothing else may wake the job in time.
    expect(asked.lookAgainMs(FREE)).toBe(5000);
    vi.advanceTimersByTime(4999);
    expect(isAsked()).toBe(true);
    vi.advanceTimersByTime(1);
    expect([isAsked(), refuse('other words'), isAsked()]).toEqual([false, true, true]);
    asked.accept('resume');
    expect([isAsked(), asked.lookAgainMs(FREE)]).toEqual([false, undefined]);
  });
});

describe('a job whose QEMU is silent', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  test('is given up half a minute after its end by force was asked for, and after QEMU was last heard', () => {
    const asked = new AskedSoFar(new HostClock());
    const isGivenUp = (job = jobOf(RUNNING, FORCE)) => asked.now(job, 1).givenUp;
    asked.see({ qemu: 'SILENT' });
    vi.advanceTimersByTime(60_000);
    expect([isGivenUp(FREE), isGivenUp()]).toEqual([false, false]);
    const forced = jobOf(RUNNING, FORCE);
    asked.now(forced, 1);
    vi.advanceTimersByTime(30_000);
    expect(isGivenUp(forced)).toBe(false);
    asked.see(seen({ paused: false, ioStatus: 'ok' }));
    vi.advanceTimersByTime(30_000);
    expect(isGivenUp(forced)).toBe(false);
    vi.advanceTimersByTime(1);
    expect(isGivenUp(forced)).toBe(true);
  });
});

function seen(job: { paused: boolean; ioStatus: 'ok' | 'nospace' }): Seen {
  const common = {
    status: 'paused',
    error: undefined,
    speedBytesPerSecond: 0,
    remainingBytes: 1,
    copiedBytes: 0,
    begun: true,
  } as const;
  const place = { deviceOn: 'SOURCE', devicePath: SOURCE } as const;
  return { qemu: 'UP', at: SEEN_AT, job: { ...common, ...job }, ...place, guestRuns: true, guestMigrates: false };
}

describe('a pause that no error explains', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  test('lasts when it is still there a fifth of a second later, and begins anew after it was gone', () => {
    const asked = new AskedSoFar(new HostClock());
    const lasts = () => asked.now(FREE, 1).pauseLasts;
    asked.see(seen({ paused: true, ioStatus: 'ok' }));
    expect([lasts(), asked.lookAgainMs(FREE)]).toEqual([false, 200]);
    vi.advanceTimersByTime(200);
    asked.see(seen({ paused: true, ioStatus: 'ok' }));
    expect([lasts(), asked.lookAgainMs(FREE)]).toEqual([true, undefined]);
    asked.see(seen({ paused: false, ioStatus: 'ok' }));
    asked.see(seen({ paused: true, ioStatus: 'ok' }));
    expect(lasts()).toBe(false);
    vi.advanceTimersByTime(200);
    asked.see(seen({ paused: true, ioStatus: 'nospace' }));
    expect([lasts(), asked.lookAgainMs(FREE)]).toEqual([false, undefined]);
  });
});

describe('a guest that waits for storage', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  const ready: Seen = {
    qemu: 'UP',
    at: SEEN_AT,
    job: {
      status: 'ready',
      error: undefined,
      ioStatus: 'ok',
      paused: false,
      speedBytesPerSecond: 0,
      remainingBytes: 0,
      copiedBytes: 1,
      begun: true,
    },
    deviceOn: 'SOURCE',
    devicePath: SOURCE,
    guestRuns: true,
    guestMigrates: false,
  };
  const pivoting = jobWith({ destination: NBD }, RUNNING, READY, pivot());
  const held = jobWith({ destination: NBD }, RUNNING, READY, pivot(), HELD);

  /** So long after QEMU has said that it goes on. */
  function waits({
    ms,
    job = held,
    silentMs = 0,
    isUnderWay = true,
  }: {
    ms: number;
    job?: Job;
    silentMs?: number;
    isUnderWay?: boolean;
  }) {
    const asked = new AskedSoFar(new HostClock());
    asked.now(job, 1);
    asked.see(ready);
    vi.advanceTimersByTime(ms);
    return { asked, is: () => asked.now(job, 1, { silentMs, isUnderWay, connectionBroken: false }).waitsFarTooLong };
  }

  test('a second longer than it may be held waits for storage, and is to be told again after two', () => {
    expect(waits({ ms: 6000 }).is()).toBe(false);
    const { asked, is } = waits({ ms: 6001 });
    expect(is()).toBe(true);
    asked.yankedCopies();
    expect([is(), asked.mayHangInMs(held, 0)]).toEqual([false, 2000]);
    vi.advanceTimersByTime(2001);
    expect(is()).toBe(true);
  });

  test('so does one whose QEMU is silent, held or not', () => {
    expect(waits({ ms: 0, job: pivoting, silentMs: 6000 }).is()).toBe(false);
    expect(waits({ ms: 0, job: pivoting, silentMs: 6001 }).is()).toBe(true);
  });

  test('nothing is broken off where the guest may be on the copy', () => {
    const { asked, is } = waits({ ms: 6001 });
    asked.add('complete');
    expect(is()).toBe(false);
    expect(waits({ ms: 6001, isUnderWay: false }).is()).toBe(false);
  });

  test('a copy that was asked to end and stands still with nothing left is stuck', () => {
    const { asked } = waits({ ms: 0, job: pivoting });
    asked.add('complete');
    asked.see(ready);
    vi.advanceTimersByTime(6001);
    asked.see(ready);
    expect(asked.now(pivoting, 1).endsTooLong).toBe(true);
    asked.see({ ...ready, job: { ...present(ready.job), copiedBytes: 2 } });
    expect(asked.now(pivoting, 1).endsTooLong).toBe(false);
  });
});
