import { describe, expect, it } from 'vitest';
import type { Job } from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import type { SpaceLevel } from '../../../../src/core/job/space-told.ts';
import { SPACE_ROWS, type SpaceSeen, spaceNews } from '../../../../src/core/moves/space-rows.ts';
import { CANCEL, jobWith, pivot, READY, RUNNING, spaceIs } from '../stories.ts';

const MIB = 1 << 20;
const GIB = 1 << 30;

const ESTIMATE = { freeBytes: 200 * MIB, neededBytes: 100 * MIB, allocatedBytes: 0, wholeBytes: GIB };

function job(...entries: readonly EntryBody[]): Job {
  return jobWith({ space: ESTIMATE }, RUNNING, ...entries);
}

/** Half of the copy is there; `free` is what the file system has, in MiB. */
function seen(free: number | undefined, more: Partial<SpaceSeen> = {}): SpaceSeen {
  const freeBytes = free === undefined ? undefined : free * MIB;
  return { freeBytes, allocatedBytes: 50 * MIB, takenBytes: 0, waitedMs: 0, ...more };
}

function bold(...entries: readonly EntryBody[]): Job {
  return jobWith({ space: { ...ESTIMATE, freeBytes: MIB }, options: { overcommit: true } }, RUNNING, ...entries);
}

const NO_SPACE: EntryBody = { entry: 'paused', reason: 'NO_SPACE' };
const USER: EntryBody = { entry: 'paused', reason: 'USER' };
const RESUMED: EntryBody = { entry: 'resumed' };
const full = (...more: readonly EntryBody[]) => job(spaceIs('FULL'), NO_SPACE, ...more);

describe('a look at the space', () => {
  it.each<[what: string, Job, SpaceSeen, SpaceLevel | undefined]>([
    ['all fits', job(), seen(100), undefined],
    ['its present data needs no room', job(), seen(50 + 16), undefined],
    ['the rest does not fit', job(), seen(50 + 15), 'LOW'],
    ['it is low, as before', job(spaceIs('LOW')), seen(50 + 15), undefined],
    ['it fits again', job(spaceIs('LOW')), seen(50 + 16), 'ENOUGH'],
    ['used up, and the pause is under way', job(spaceIs('FULL')), seen(100), undefined],
    ['used up, and it pivots meanwhile', job(READY, spaceIs('FULL'), pivot()), seen(100), 'ENOUGH'],
    ['it is low again', job(spaceIs('LOW'), spaceIs('ENOUGH')), seen(20), 'LOW'],
    ['the reserve is touched', job(), seen(15), 'FULL'],
    ['the reserve will be touched before the next look', job(), seen(45, { takenBytes: 30 * MIB }), 'FULL'],
    ['the rest is written before the next look, and fits', job(), seen(67, { takenBytes: 500 * MIB }), undefined],
    ['READY: nothing is to come', job(READY), seen(17), undefined],
    ['READY, and the reserve is touched', job(READY), seen(15), 'FULL'],
    ['paused by a client: needs no other pause', job(USER), seen(15), 'LOW'],
    ['on_no_space FAIL: reported only', jobWith({ options: { onNoSpace: 'FAIL' } }, RUNNING), seen(15), 'LOW'],
    ['pivoting: reported only', job(READY, pivot()), seen(15), 'LOW'],
    ['cancelling: reported only', job(CANCEL), seen(15), 'LOW'],
    ['an image that cannot grow needs none', job(), seen(0, { allocatedBytes: GIB }), undefined],
    ['an older journal: only the reserve is known', jobWith({}, RUNNING), seen(17), undefined],
    ['an older journal, and the reserve is touched', jobWith({}, RUNNING), seen(15), 'FULL'],
    ['paused, as before', full(), seen(15), undefined],
    ['paused: some space is not enough', full(), seen(50 + 15), undefined],
    ['paused: the rest fits', full(), seen(50 + 16), 'ENOUGH'],
    ['paused, READY: twice the reserve', job(READY, spaceIs('FULL'), NO_SPACE), seen(31), undefined],
    ['paused, READY: twice the reserve is there', job(READY, spaceIs('FULL'), NO_SPACE), seen(32), 'ENOUGH'],
    ['paused by QEMU: reported', job(NO_SPACE), seen(15), 'FULL'],
    ['paused by QEMU, and there is space', job(NO_SPACE), seen(100), 'ENOUGH'],
    ['about to go on', full(spaceIs('ENOUGH')), seen(100), undefined],
    ['resumed by a client in spite of it', full(RESUMED), seen(15), 'FULL'],
    ['paused again by QEMU with space: waits', full(spaceIs('ENOUGH'), NO_SPACE), seen(100), undefined],
    ['… for 8 seconds', full(spaceIs('ENOUGH'), NO_SPACE), seen(100, { waitedMs: 8000 }), 'ENOUGH'],
    [
      '… then for 32',
      full(spaceIs('ENOUGH'), NO_SPACE, spaceIs('ENOUGH'), RESUMED, NO_SPACE),
      seen(100, { waitedMs: 31_999 }),
      undefined,
    ],
    ['not known: no report', job(), seen(undefined), undefined],
    ['not known, paused: waits', job(NO_SPACE), seen(undefined, { waitedMs: 7999 }), undefined],
    ['not known, paused: tries again', job(NO_SPACE), seen(undefined, { waitedMs: 8000 }), 'ENOUGH'],
  ])('%s', (_what, now, what, level) => {
    expect(spaceNews(now, what)?.level).toBe(level);
  });

  it('waits for at most ten minutes', () => {
    const often = Array.from({ length: 20 }, () => [spaceIs('ENOUGH'), RESUMED, NO_SPACE]).flat();
    const what = (waitedMs: number) => spaceNews(full(...often), seen(100, { waitedMs }))?.level;
    expect([what(599_999), what(600_000)]).toEqual([undefined, 'ENOUGH']);
  });

  it('with overcommit it goes on with twice the reserve', () => {
    expect(spaceNews(bold(), seen(40))).toBeUndefined();
    expect(spaceNews(bold(), seen(15))?.level).toBe('FULL');
    expect(spaceNews(bold(spaceIs('FULL'), NO_SPACE), seen(31))).toBeUndefined();
    expect(spaceNews(bold(spaceIs('FULL'), NO_SPACE), seen(32))?.level).toBe('ENOUGH');
  });

  it('has the numbers', () => {
    expect(spaceNews(job(), seen(20))).toEqual({
      entry: 'space',
      level: 'LOW',
      freeBytes: 20 * MIB,
      neededBytes: 50 * MIB,
    });
  });

  it('has a row for each case', () => {
    expect(SPACE_ROWS.filter(({ job: who, qemu, does }) => who === '' || qemu === '' || does === '')).toEqual([]);
    expect(SPACE_ROWS).toHaveLength(5);
  });
});
