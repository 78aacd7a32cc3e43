/** The effect of newer jobs on the answers of an older one. */
import { describe, expect, it } from 'vitest';
import { concludedJob } from '../../../../src/core/job/job.ts';
import type { Accepted, EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { type KnownJob, knownOf } from '../../../../src/core/job/known-job.ts';
import { LaterJobs } from '../../../../src/core/job/later-jobs.ts';
import { outcomeAtEnd } from '../../../../src/core/job/outcome-of.ts';
import type { FileNames, UsedFile } from '../../../../src/core/job/used-file.ts';
import {
  ACTIVE_COMMIT,
  CANCEL,
  COMMIT,
  CREATED,
  DESTINATION,
  FORCE,
  MADE,
  PULL,
  pivot,
  READY,
  RUNNING,
  SOURCE,
  jobWith as wholeJobWith,
} from '../stories.ts';

/** As it is known at any moment. */
const jobWith = (...of: Parameters<typeof wholeJobWith>): KnownJob => knownOf(wholeJobWith(...of));

interface Place {
  readonly deviceOn: 'SOURCE' | 'DESTINATION' | 'ELSEWHERE' | 'NOWHERE';
  readonly devicePath?: string;
}

/** A job that has ended with the guest there, and with that error. */
function ended(
  job: string,
  accepted: Partial<Accepted>,
  entries: readonly EntryBody[],
  { deviceOn, devicePath }: Place,
  qemuError?: string,
): KnownJob {
  const { options: _options, ...given } = accepted;
  const how = deviceOn === 'NOWHERE' ? ('QEMU_ENDED' as const) : ('CONCLUDED' as const);
  const concluded = { entry: 'concluded', how, qemuError, deviceOn, devicePath } as const;
  const outcome = outcomeAtEnd(concludedJob(wholeJobWith({ ...given, job }, ...entries, concluded)));
  const end = { entry: 'ended', state: 'COMPLETED', failure: undefined, outcome } as const;
  return jobWith({ ...given, job }, ...entries, concluded, end);
}

const ON_COPY: Place = { deviceOn: 'DESTINATION', devicePath: DESTINATION };
const ON_SOURCE: Place = { deviceOn: 'SOURCE', devicePath: SOURCE };
const GONE: Place = { deviceOn: 'NOWHERE' };
const PIVOTED: readonly EntryBody[] = [RUNNING, READY, pivot()];
const BACK = {
  source: { node: 'copy', path: DESTINATION, format: 'qcow2' },
  destination: { node: 'back', path: SOURCE, format: 'QCOW2', target: { kind: 'file', path: SOURCE } },
} as const satisfies Partial<Accepted>;

const first = ended('bj1', {}, PIVOTED, ON_COPY);

const uses = (...files: readonly UsedFile[]) => ({ ...BACK, uses: files });
const moved = (later: KnownJob, job = first) => new LaterJobs([job, later]).thatMoved(job);

describe('a file', () => {
  const named: FileNames = { path: SOURCE, key: 'file 1:2', keys: ['file 1:2'] };
  const by = (later: KnownJob, file = named) => new LaterJobs([first, later]).withFile('bj1', file);

  it('is the same by its inode and time of birth if a boot or a mount has given its device another number', () => {
    const born = 'inode 2 of 17';
    const now: FileNames = { path: '/moved', key: 'file 9:2', keys: ['file 9:2'], born };
    const device: FileNames = { path: '/dev/dm-0', key: 'device 9', keys: ['device 9', 'file 9:2', born] };
    const cases: readonly (readonly [UsedFile, FileNames, boolean])[] = [
      [{ as: 'DISK', path: '/other', key: 'file 1:2', keys: ['file 1:2'], born }, now, true],
      [{ as: 'DISK', path: '/other', key: 'file 1:2', keys: ['file 1:2'], born }, device, true],
      [{ as: 'DISK', path: '/dev/dm-0', key: 'device 8', keys: ['device 8', 'file 1:2', born] }, now, true],
      [{ as: 'DISK', path: '/other', key: 'file 1:2', keys: ['file 1:2'], born: 'inode 2 of 18' }, now, false],
      // As it was written before birth times were recorded.
      [{ as: 'DISK', path: '/other', key: 'file 9:2', keys: ['file 9:2'] }, now, true],
      // A file system above others gives a file another birth time at its first write.
      [{ as: 'DISK', path: '/other', key: 'file 9:2', keys: ['file 9:2'], born: 'inode 2 of 18' }, now, true],
    ];
    for (const [used, file, is] of cases) {
      const later = ended('bj2', uses(used), PIVOTED, ON_COPY);
      expect([used, file.path, by(later, file)]).toEqual([used, file.path, is ? 'bj2' : undefined]);
    }
  });

  it('belongs to a later job which has it in its disk, by path, key, or parts of either', () => {
    const cases: readonly (readonly [UsedFile, boolean])[] = [
      [{ as: 'DISK', path: SOURCE }, true],
      [{ as: 'DISK', path: '/other', key: 'file 1:2', keys: ['file 1:2'] }, true],
      [{ as: 'DISK', path: '/dev/loop0', key: 'file 1:2', keys: ['device 7', 'file 1:2'] }, true],
      [{ as: 'DISK', path: '/dev/dm-0', key: 'device 8', keys: ['device 8', 'file 1:2'] }, true],
      [{ as: 'DISK', path: '/other', key: 'file 1:3', keys: ['file 1:3'] }, false],
      [{ as: 'DISK', path: '/other' }, false],
    ];
    for (const [used, is] of cases) {
      const later = jobWith({ job: 'bj2', ...uses(used) }, RUNNING);
      expect([used, by(later)]).toEqual([used, is ? 'bj2' : undefined]);
    }
    const volume = { path: '/dev/dm-1', key: 'device 9', keys: ['device 9', 'device 10'] };
    const disk = { as: 'DISK', path: '/dev/sda', key: 'device 10', keys: ['device 10'] } as const;
    expect(by(jobWith({ job: 'bj2', ...uses(disk) }, RUNNING), volume)).toBe('bj2');
  });

  it('is not that of an older job, nor of one that does not name it', () => {
    const later = new LaterJobs([ended('bj0', BACK, PIVOTED, ON_SOURCE), first]);
    expect(later.withFile('bj1', named)).toBeUndefined();
    expect(later.withFile('bj7', named)).toBeUndefined();
  });

  it('is that of the newest of them', () => {
    const jobs = ['bj2', 'bj3', 'bj4'].map((job) => ended(job, BACK, PIVOTED, ON_SOURCE));
    expect(new LaterJobs([first, ...jobs]).withFile('bj1', named)).toBe('bj4');
    expect(new LaterJobs([first, ...jobs]).withFile('bj4', named)).toBeUndefined();
  });

  it('that a copy was made into belongs to that copy, unless the copy failed', () => {
    const copies: readonly (readonly [string, KnownJob, boolean])[] = [
      ['goes on', jobWith({ job: 'bj2', ...BACK }, RUNNING), true],
      ['is READY', jobWith({ job: 'bj2', ...BACK }, RUNNING, READY), true],
      ['pivoted', ended('bj2', BACK, PIVOTED, { deviceOn: 'DESTINATION', devicePath: SOURCE }), true],
      ['complete', ended('bj2', BACK, [RUNNING, READY, CANCEL], { deviceOn: 'SOURCE', devicePath: DESTINATION }), true],
      ['nobody knows', ended('bj2', BACK, PIVOTED, GONE), true],
      ['cancelled before READY', ended('bj2', BACK, [RUNNING, CANCEL], { ...ON_COPY, deviceOn: 'SOURCE' }, 'x'), false],
      ['stale', ended('bj2', BACK, [RUNNING, READY, FORCE], { ...ON_COPY, deviceOn: 'SOURCE' }, 'x'), false],
    ];
    for (const [what, later, is] of copies) expect([what, by(later)]).toEqual([what, is ? 'bj2' : undefined]);
  });

  it('that is the base of an active commit belongs to it, however that ended', () => {
    const base = { path: '/vm/base.qcow2' };
    const failed = ended('bj2', ACTIVE_COMMIT, [RUNNING, CANCEL], ON_SOURCE, 'x');
    expect(by(failed, base)).toBe('bj2');
  });

  it('is recognized as made by a job, too, whatever its name is now', () => {
    const made = jobWith({ job: 'bj2', uses: [] }, CREATED, RUNNING);
    const key = `file ${MADE.device}:${MADE.inode}`;
    expect(by(made, { path: '/renamed', key, keys: [key] })).toBe('bj2');
  });

  it('is known by the names in journals that have nothing else', () => {
    const options = { basePath: '/vm/low', topPath: '/vm/high' };
    const commit = jobWith({ ...COMMIT, job: 'bj2', options }, RUNNING);
    for (const path of [SOURCE, '/vm/low', '/vm/high']) expect([path, by(commit, { path })]).toEqual([path, 'bj2']);
    expect(by(commit, { path: '' })).toBeUndefined();
  });
});

describe('the place of the guest', () => {
  it('is known from the later job that has moved it, or may have', () => {
    const back: Place = { deviceOn: 'DESTINATION', devicePath: SOURCE };
    const stays: Place = { deviceOn: 'SOURCE', devicePath: DESTINATION };
    const cases: readonly (readonly [string, KnownJob, boolean])[] = [
      ['pivoted', ended('bj2', BACK, PIVOTED, back), true],
      ['pivots', jobWith({ job: 'bj2', ...BACK }, ...PIVOTED), true],
      ['may have', ended('bj2', BACK, PIVOTED, GONE), true],
      ['put on a snapshot', ended('bj2', BACK, [RUNNING], { deviceOn: 'SOURCE', devicePath: '/snapshot' }, 'x'), true],
      ['goes on', jobWith({ job: 'bj2', ...BACK }, RUNNING, READY), false],
      ['ended without', ended('bj2', BACK, [RUNNING, READY, CANCEL], stays), false],
      ['QEMU has ended before', ended('bj2', BACK, [RUNNING], GONE), false],
      ['a pull', ended('bj2', { ...PULL, source: BACK.source }, [RUNNING], stays), false],
    ];
    for (const [what, later, is] of cases) expect([what, moved(later)]).toEqual([what, is ? 'bj2' : undefined]);
  });

  it('is known from one that found it elsewhere', () => {
    expect(moved(ended('bj2', PULL, [RUNNING], ON_SOURCE))).toBe('bj2');
    // If nobody knew, from a job that found it.
    const unknown = ended('bj1', {}, PIVOTED, GONE);
    expect(moved(ended('bj2', PULL, [RUNNING], ON_SOURCE), unknown)).toBe('bj2');
  });

  it('is not known from one of another disk or VM, nor from an older one', () => {
    for (const other of [{ disk: 'vd1' }, { domain: 'vm2' }])
      expect(moved(ended('bj2', other, PIVOTED, ON_COPY))).toBeUndefined();
    expect(new LaterJobs([ended('bj0', {}, PIVOTED, ON_COPY), first]).thatMoved(first)).toBeUndefined();
  });

  it('is that of a VM of that UUID, whatever its name is now', () => {
    const uuid = 'C0FFEE00-0000-4000-8000-000000000001';
    const one = ended('bj1', { domainUuid: uuid }, PIVOTED, ON_COPY);
    const renamed = { domainUuid: uuid.toLowerCase(), domain: 'other' };
    expect(moved(ended('bj2', renamed, PIVOTED, ON_COPY), one)).toBe('bj2');
  });
});
