/* oxlint-disable unicorn/consistent-function-scoping */

import { describe, expect, test } from 'vitest';
import type { Job } from '../../../../src/core/job/job.ts';
import type { AcceptedDestination } from '../../../../src/core/job/journal-entry.ts';
import {
  askedNow,
  HOLD_LIMIT_MS,
  isNews,
  lookAgainMs,
  mayHangInMs,
  NOTHING_HEARD,
} from '../../../../src/core/moves/circumstances.ts';
import { type Happening, type Memory, memoryOf, remember } from '../../../../src/core/moves/memory.ts';
import type { Asking, Circumstance, Seen } from '../../../../src/core/moves/moves.ts';
import { present } from '../../../support/checks.ts';
import { FORCE, HELD, jobOf, jobWith, pivot, READY, RUNNING, SEEN_AT, SOURCE } from '../stories.ts';

/** A memory, and the times of its samples. */
class Remembered {
  nowMs = 1_000_000;
  #memory: Memory = memoryOf(jobOf(), this.nowMs);

  note(...all: readonly Happening[]): void {
    for (const what of all) this.#memory = remember(this.#memory, what, this.nowMs);
  }

  is(name: Asking | Circumstance, job: Job, heard = NOTHING_HEARD): boolean {
    this.note({ is: 'written', job, generation: 1 });
    return askedNow(this.#memory, { nowMs: this.nowMs, leftMs: Infinity, throttleLeftMs: Infinity }, heard).asked.has(
      name,
    );
  }

  lookAgainMs(job: Job): number | undefined {
    this.note({ is: 'written', job, generation: 1 });
    return lookAgainMs(this.#memory, { nowMs: this.nowMs, leftMs: Infinity, throttleLeftMs: Infinity });
  }

  mayHangInMs(silentMs: number): number {
    return mayHangInMs(this.#memory, this.nowMs, silentMs);
  }

  /** Whether the words were new. */
  refuse(asking: Asking, words: string): boolean {
    const news = isNews(this.#memory, asking, words);
    this.note({ is: 'refused', asking, words });
    return news;
  }
}

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
  test.each([10, HOLD_LIMIT_MS])('for %d ms gets four times as long for its work', (heldMs) => {
    const asked = new Remembered();
    expect(asked.is('restsFromHold', FREE)).toBe(false);
    asked.note({ is: 'written', job: PAUSED, generation: 1 });
    asked.nowMs += heldMs;
    expect(asked.is('restsFromHold', FREE)).toBe(true);
    asked.nowMs += 4 * heldMs - 1;
    expect(asked.is('restsFromHold', FREE)).toBe(true);
    asked.nowMs += 1;
    expect(asked.is('restsFromHold', FREE)).toBe(false);
  });
});

test('a guest that was held when the service began is held since its QEMU answers, for the rest of its time', () => {
  let memory = memoryOf(PAUSED, 0);
  const rests = (nowMs: number, job: Job) => {
    memory = remember(memory, { is: 'written', job, generation: 1 }, nowMs);
    return askedNow(memory, { nowMs, leftMs: Infinity, throttleLeftMs: Infinity }, NOTHING_HEARD).asked.has(
      'restsFromHold',
    );
  };
  rests(60_000, PAUSED);
  expect([60_010, 60_049, 60_050].map((nowMs) => rests(nowMs, FREE))).toEqual([true, true, false]);
});

describe('an end by force', () => {
  test.each([
    ['over the network is asked for again, and so is the yank', jobWith({ destination: NBD }, RUNNING, FORCE), false],
    ['of a file is asked for once', jobOf(RUNNING, FORCE), true],
  ] as const)('%s', (_name, job, stays) => {
    const asked = new Remembered();
    asked.note({ is: 'written', job, generation: 1 });
    asked.note({ is: 'asked', asking: 'yank' });
    asked.note({ is: 'asked', asking: 'forceEnd' });
    asked.nowMs += 2000;
    expect([asked.is('yank', job), asked.is('forceEnd', job)]).toEqual([true, true]);
    asked.nowMs += 1;
    expect([asked.is('yank', job), asked.is('forceEnd', job)]).toEqual([stays, stays]);
  });
});

test('a copy over the network is looked at every two seconds: no event tells that its server hangs', () => {
  expect(new Remembered().lookAgainMs(jobWith({ destination: NBD }, RUNNING, READY))).toBe(2000);
  expect(new Remembered().lookAgainMs(jobOf(RUNNING, READY))).toBe(undefined);
});

describe('the refusals of QEMU', () => {
  test('are repeated at once for two seconds, and then every five; a change of the words is reported', () => {
    const asked = new Remembered();
    const isAsked = () => asked.is('resume', FREE);
    const refuse = (words = 'not paused') => {
      asked.note({ is: 'asked', asking: 'resume' });
      return asked.refuse('resume', words);
    };
    isAsked();
    expect(refuse()).toBe(true);
    asked.nowMs += 2000;
    expect([refuse(), isAsked()]).toEqual([false, false]);
    asked.nowMs += 1;
    expect([refuse(), isAsked()]).toEqual([false, true]);
    // Nothing else may wake the job in time.
    expect(asked.lookAgainMs(FREE)).toBe(5000);
    asked.nowMs += 4999;
    expect(isAsked()).toBe(true);
    asked.nowMs += 1;
    expect([isAsked(), refuse('other words'), isAsked()]).toEqual([false, true, true]);
    asked.note({ is: 'accepted', asking: 'resume' });
    expect([isAsked(), asked.lookAgainMs(FREE)]).toEqual([false, undefined]);
  });
});

describe('a job whose QEMU is silent', () => {
  test('is given up half a minute after its end by force was requested, and after the last answer of QEMU', () => {
    const asked = new Remembered();
    const isGivenUp = (job = jobOf(RUNNING, FORCE)) => asked.is('givenUp', job);
    asked.note({ is: 'seen', seen: { qemu: 'SILENT' } });
    asked.nowMs += 60_000;
    expect([isGivenUp(FREE), isGivenUp()]).toEqual([false, false]);
    const forced = jobOf(RUNNING, FORCE);
    asked.note({ is: 'written', job: forced, generation: 1 });
    asked.nowMs += 30_000;
    expect(isGivenUp(forced)).toBe(false);
    asked.note({ is: 'seen', seen: seen({ paused: false, ioStatus: 'ok' }) });
    asked.nowMs += 30_000;
    expect(isGivenUp(forced)).toBe(false);
    asked.nowMs += 1;
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
  test('lasts if it is still there a fifth of a second later, and starts again after it was gone', () => {
    const asked = new Remembered();
    const lasts = () => asked.is('pauseLasts', FREE);
    asked.note({ is: 'seen', seen: seen({ paused: true, ioStatus: 'ok' }) });
    expect([lasts(), asked.lookAgainMs(FREE)]).toEqual([false, 200]);
    asked.nowMs += 200;
    asked.note({ is: 'seen', seen: seen({ paused: true, ioStatus: 'ok' }) });
    expect([lasts(), asked.lookAgainMs(FREE)]).toEqual([true, undefined]);
    asked.note({ is: 'seen', seen: seen({ paused: false, ioStatus: 'ok' }) });
    asked.note({ is: 'seen', seen: seen({ paused: true, ioStatus: 'ok' }) });
    expect(lasts()).toBe(false);
    asked.nowMs += 200;
    asked.note({ is: 'seen', seen: seen({ paused: true, ioStatus: 'nospace' }) });
    expect([lasts(), asked.lookAgainMs(FREE)]).toEqual([false, undefined]);
  });
});

describe('a guest that waits for storage', () => {
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

  /** The time since QEMU has said that it continues. */
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
    const asked = new Remembered();
    asked.note({ is: 'written', job, generation: 1 });
    asked.note({ is: 'seen', seen: ready });
    asked.nowMs += ms;
    return {
      asked,
      is: () => asked.is('waitsFarTooLong', job, { silentMs, isUnderWay, connectionBroken: false }),
    };
  }

  test('a second longer than it may be held waits for storage, and is reported again after two', () => {
    expect(waits({ ms: 6000 }).is()).toBe(false);
    const { asked, is } = waits({ ms: 6001 });
    expect(is()).toBe(true);
    asked.note({ is: 'copies-yanked' });
    expect([is(), asked.mayHangInMs(0)]).toEqual([false, 2000]);
    asked.nowMs += 2001;
    expect(is()).toBe(true);
  });

  test('a guest whose QEMU is silent does, too, held or not', () => {
    expect(waits({ ms: 0, job: pivoting, silentMs: 6000 }).is()).toBe(false);
    expect(waits({ ms: 0, job: pivoting, silentMs: 6001 }).is()).toBe(true);
  });

  test('nothing is cancelled if the guest may be on the copy', () => {
    const { asked, is } = waits({ ms: 6001 });
    asked.note({ is: 'asked', asking: 'complete' });
    expect(is()).toBe(false);
    expect(waits({ ms: 6001, isUnderWay: false }).is()).toBe(false);
  });

  test('a copy that has to end and makes no progress with nothing left is stuck', () => {
    const { asked } = waits({ ms: 0, job: pivoting });
    asked.note({ is: 'asked', asking: 'complete' });
    asked.note({ is: 'seen', seen: ready });
    asked.nowMs += 6001;
    asked.note({ is: 'seen', seen: ready });
    expect(asked.is('endsTooLong', pivoting)).toBe(true);
    asked.note({ is: 'seen', seen: { ...ready, job: { ...present(ready.job), copiedBytes: 2 } } });
    expect(asked.is('endsTooLong', pivoting)).toBe(false);
  });
});

describe('a pivot that finds no moment without dirty data', () => {
  const pivoting = jobOf(RUNNING, READY, pivot());

  function looked(copiedBytes: number, remainingBytes: number): Happening {
    const now = seen({ paused: false, ioStatus: 'ok' });
    if (now.qemu !== 'UP') throw new Error('no QEMU was seen');
    return { is: 'seen', seen: { ...now, job: { ...present(now.job), status: 'ready', copiedBytes, remainingBytes } } };
  }

  /** Looks every 500 ms, of a copy of a million bytes a second; the time from the pivot until it is overdue. */
  function overdueAfterMs(leftBytes: number, copiesBytes = 500_000): number {
    const asked = new Remembered();
    asked.note({ is: 'written', job: pivoting, generation: 1 }, { is: 'asked', asking: 'complete' });
    const since = asked.nowMs;
    for (let look = 1; !asked.is('overdue', pivoting); look += 1) {
      asked.nowMs += 500;
      asked.note(looked(look * copiesBytes, leftBytes));
    }
    return asked.nowMs - since;
  }

  test('is overdue after 30 seconds, and after three if what is left is written within a second', () => {
    expect(overdueAfterMs(1_000_001)).toBe(30_500);
    expect(overdueAfterMs(1_000_000)).toBe(3500);
  });

  test('that waits for storage with nothing left is overdue after 30 seconds: a pause would not help', () => {
    expect(overdueAfterMs(0, 0)).toBe(30_500);
    expect(overdueAfterMs(0)).toBe(3500);
  });
});
