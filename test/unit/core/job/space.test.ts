import { describe, expect, it } from 'vitest';
import type { Job } from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import {
  RESERVE_BYTES,
  spaceBesides,
  spaceForGuest,
  spaceForStart,
  spaceOf,
  spaceOfCopy,
  spaceOfWhole,
  type TakenImage,
} from '../../../../src/core/job/space.ts';
import { jobWith, RUNNING, spaceIs } from '../stories.ts';

const MIB = 1 << 20;
const GIB = 1 << 30;
const RESERVE = RESERVE_BYTES;

const RAW: TakenImage = {
  format: 'RAW',
  virtualSizeBytes: GIB,
  clusterSizeBytes: undefined,
  extendedL2: false,
  encrypted: false,
};
const QCOW2: TakenImage = { ...RAW, format: 'QCOW2' };
const file = (mib: number) => ({ allocatedBytes: mib * MIB, storageBytes: 2 * GIB });
const device = (mib: number) => ({ allocatedBytes: undefined, storageBytes: mib * MIB });
const K64 = 65_536;

describe('the space of a copy', () => {
  it.each([
    ['one image', RAW, [file(100)], 100 * MIB],
    ['a chain', RAW, [file(100), file(50)], 150 * MIB],
    ['no more than the disk', RAW, [file(1000), file(500)], GIB],
    ['a device', RAW, [device(300)], 300 * MIB],
    ['nothing', RAW, [file(0)], 0],
    ['nothing, as qcow2: header, top table, counts', QCOW2, [file(0)], 3 * K64],
    // 1600 clusters; 8192 fit a table, so the disk has 2 tables.
    ['qcow2', QCOW2, [file(100)], 100 * MIB + (4 + 2) * K64],
    ['one cluster: not all tables', QCOW2, [file(1 / 16)], K64 + (4 + 1) * K64],
    ['subclusters: tables of twice the size', { ...QCOW2, extendedL2: true }, [file(100)], 100 * MIB + (4 + 4) * K64],
    ['LUKS', { ...QCOW2, encrypted: true }, [file(100)], 100 * MIB + (4 + 2) * K64 + 2 * MIB],
    ['small clusters', { ...QCOW2, clusterSizeBytes: 4096 }, [file(1)], MIB + (1 + 1 + 256 + 2) * 4096],
  ] as const)('%s', (_what, image, images, expected) => {
    expect(spaceOfCopy(images, image)).toBe(expected);
  });

  it('is at most that of the whole disk', () => {
    expect(spaceOfWhole(QCOW2)).toBe(GIB + (1 + 1 + 2 + 2) * K64);
  });

  it.each([
    ['a whole copy replaces it', false, 300, 100, 200],
    ['a whole copy that is smaller', false, 300, 400, 0],
    ['a shallow one adds to it', true, 300, 100, 300],
    ['a shallow one adds no more than there is left', true, 300, 900, 100],
    ['a shallow one into a full image', true, 300, 1000, 0],
  ])('besides what is there: %s', (_what, topOnly, copyBytes, allocatedBytes, expected) => {
    expect(spaceBesides(copyBytes, { allocatedBytes, wholeBytes: 1000, topOnly })).toBe(expected);
  });
});

const ESTIMATE = { freeBytes: 200 * MIB, neededBytes: 100 * MIB, allocatedBytes: 0, wholeBytes: GIB };

function job(...entries: readonly EntryBody[]): Job {
  return jobWith({ space: ESTIMATE }, RUNNING, ...entries);
}

describe('the space for a start', () => {
  it.each([
    ['the estimate and the reserve', ESTIMATE, 100 * MIB + RESERVE],
    ['no more than there is of the disk', { ...ESTIMATE, wholeBytes: 101 * MIB }, 101 * MIB],
    ['nothing for an image that cannot grow', { ...ESTIMATE, neededBytes: 0, allocatedBytes: GIB }, 0],
  ])('is %s', (_what, estimate, expected) => {
    expect(spaceForStart(estimate)).toBe(expected);
  });
});

describe('the space for a pivot', () => {
  it.each([
    ['an image that can grow', job(), 0, RESERVE],
    ['an image that can grow a little', job(), GIB - MIB, MIB],
    ['an image that cannot grow', job(), GIB, 0],
    ['an older journal', jobWith({}, RUNNING), GIB, RESERVE],
  ])('of %s', (_what, now, allocatedBytes, expected) => {
    expect(spaceForGuest(now, allocatedBytes)).toBe(expected);
  });
});

describe('the space for callers', () => {
  it('is the estimate, until another level is reported', () => {
    expect(spaceOf(job())).toEqual({
      level: 'ENOUGH',
      neededBytes: 100 * MIB,
      freeBytes: 200 * MIB,
      overcommit: false,
    });
    expect(spaceOf(job(spaceIs('FULL')))).toMatchObject({ level: 'FULL', neededBytes: 3, freeBytes: 2 });
    const bold = { space: { ...ESTIMATE, freeBytes: MIB }, options: { overcommit: true } };
    expect(spaceOf(jobWith(bold, RUNNING))).toMatchObject({ level: 'LOW', freeBytes: MIB, overcommit: true });
    expect(spaceOf(jobWith({}, RUNNING))).toBeUndefined();
  });
});
