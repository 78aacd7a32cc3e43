/** The rules of the gate: the pivots that are allowed, the records that fit, and the path to set back at the end. */
import { describe, expect, it } from 'vitest';
import { allows, fold, IllegalTransition, type Job } from '../../../../src/core/job/job.ts';
import { publicJob } from '../../../../src/core/job/job-view.ts';
import type { Concluded, EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { refusedPivot, setConfigBackTo } from '../../../../src/core/job/pivot-gate.ts';
import {
  ACCEPTED,
  ACTIVE_COMMIT,
  BASE,
  CONCLUDED,
  DESTINATION,
  FORCE,
  JOB,
  jobWith,
  journalOf,
  OPTIONS,
  PULL,
  READY,
  RUNNING,
  SOURCE,
  timeOf,
} from '../stories.ts';

const TOKEN = 'token-1';
const STALE = 'token-of-an-earlier-attempt';
const OPENED: EntryBody = { entry: 'gate-opened', token: TOKEN };
const RECORDED: EntryBody = { entry: 'config-recorded', token: TOKEN };
const PIVOT: EntryBody = { entry: 'pivot-requested', pauseGuest: 'AUTO' };
const PIVOT_WITH: EntryBody = { ...PIVOT, token: TOKEN };
const EXTERNAL = { options: { configOwner: 'EXTERNAL' } } as const;

const JOBS = {
  'without an owner': jobWith({}, RUNNING, READY),
  'that nobody fences': jobWith({ options: { configOwner: 'NONE' } }, RUNNING, READY),
  'that runs': jobWith(EXTERNAL, RUNNING),
  'that is READY': jobWith(EXTERNAL, RUNNING, READY),
  'with a gate': jobWith(EXTERNAL, RUNNING, READY, OPENED),
  'with a record': jobWith(EXTERNAL, RUNNING, READY, OPENED, RECORDED),
  'that pivots': jobWith(EXTERNAL, RUNNING, READY, OPENED, PIVOT_WITH),
  'that has concluded': jobWith(EXTERNAL, RUNNING, READY, OPENED, CONCLUDED),
  'that is cancelled': jobWith(EXTERNAL, RUNNING, READY, OPENED, FORCE),
  'that is a pull': jobWith({ ...PULL, ...EXTERNAL }, RUNNING),
} as const satisfies Record<string, Job>;

describe('a pivot', () => {
  it.each<[keyof typeof JOBS, none: string, fitting: string, stale: string]>([
    ['without an owner', 'is allowed', 'CONFIG_RECORD_STALE', 'CONFIG_RECORD_STALE'],
    ['that nobody fences', 'is allowed', 'CONFIG_RECORD_STALE', 'CONFIG_RECORD_STALE'],
    ['that is READY', 'CONFIG_NOT_RECORDED', 'CONFIG_RECORD_STALE', 'CONFIG_RECORD_STALE'],
    ['with a gate', 'CONFIG_NOT_RECORDED', 'is allowed', 'CONFIG_RECORD_STALE'],
    ['with a record', 'is allowed', 'is allowed', 'CONFIG_RECORD_STALE'],
    ['that pivots', 'is allowed', 'is allowed', 'CONFIG_RECORD_STALE'],
  ])('of a job %s: without a record %s, with the fitting one %s, with another one %s', (name, ...expected) => {
    const answers = [undefined, TOKEN, STALE].map((token) => refusedPivot(JOBS[name], token)?.reason ?? 'is allowed');
    expect(answers).toEqual(expected);
  });

  it('that is refused names the job, the token and the path to record', () => {
    const refusal = refusedPivot(JOBS['with a gate'], undefined);
    expect(refusal?.metadata).toEqual({ job: JOB, token: TOKEN, path: DESTINATION });
    expect(refusedPivot(JOBS['with a gate'], STALE)?.metadata).toEqual({ job: JOB, token: STALE });
  });
});

describe('the journal of a job', () => {
  const STALE_RECORD: EntryBody = { ...RECORDED, token: STALE };
  const STALE_PIVOT: EntryBody = { ...PIVOT, token: STALE };
  it.each<[keyof typeof JOBS, readonly EntryBody[]]>([
    ['without an owner', [PIVOT]],
    ['that nobody fences', [PIVOT]],
    ['that runs', []],
    ['that is READY', [OPENED]],
    ['with a gate', [RECORDED, PIVOT_WITH]],
    ['with a record', [PIVOT, PIVOT_WITH]],
    ['that pivots', []],
    ['that has concluded', []],
    ['that is cancelled', []],
    ['that is a pull', []],
  ])('%s takes no other entry of the gate', (name, expected) => {
    const all = [OPENED, RECORDED, STALE_RECORD, PIVOT, PIVOT_WITH, STALE_PIVOT];
    expect(all.filter((entry) => allows(JOBS[name], entry))).toEqual(expected);
  });

  it.each<[string, readonly EntryBody[]]>([
    ['a pivot before the gate', [PIVOT]],
    ['a pivot without a record', [OPENED, PIVOT]],
    ['a pivot with the record of another attempt', [OPENED, { ...PIVOT, token: STALE }]],
    ['the record of another attempt', [OPENED, STALE_RECORD, PIVOT]],
  ])('with %s is damaged', (_what, entries) => {
    expect(() => jobWith(EXTERNAL, RUNNING, READY, ...entries)).toThrow(IllegalTransition);
  });

  it('of an older version has no owner, and pivots without a record', () => {
    expect(fold(journalOf({ ...ACCEPTED, options: OPTIONS }, RUNNING, READY, PIVOT)).state).toBe('PIVOTING');
  });
});

describe('the gate that callers see', () => {
  it.each<[string, Job, object | undefined]>([
    ['is absent before READY', JOBS['that runs'], undefined],
    ['is open', JOBS['with a gate'], { token: TOKEN, openTime: timeOf(4), nextStartPath: DESTINATION }],
    ['has the time of a record before the pivot', JOBS['with a record'], { recordTime: timeOf(5) }],
    ['has the time of a record with the pivot', JOBS['that pivots'], { recordTime: timeOf(5) }],
    [
      'keeps the first time',
      jobWith(EXTERNAL, RUNNING, READY, OPENED, RECORDED, PIVOT_WITH),
      { token: TOKEN, recordTime: timeOf(5) },
    ],
    [
      'names the base of an active commit',
      jobWith({ ...ACTIVE_COMMIT, ...EXTERNAL }, RUNNING, READY, OPENED),
      { nextStartPath: BASE },
    ],
  ])('%s', (_what, job, expected) => {
    expect(publicJob(job)).toMatchObject({ pivotGate: expected });
  });
});

const end = (how: Concluded['how'], on: Concluded['deviceOn'], devicePath?: string, qemuError?: string): Concluded => ({
  entry: 'concluded',
  how,
  qemuError,
  deviceOn: on,
  devicePath,
});

describe('the configuration', () => {
  const REQUESTED = JOBS['that pivots'];
  const BEFORE = JOBS['with a record'];
  const SNAPSHOT = '/vm/snapshot.qcow2';

  it.each<[string, Job, Concluded, string | undefined]>([
    ['is right after a pivot', REQUESTED, end('CONCLUDED', 'DESTINATION', DESTINATION), undefined],
    ['is set back after a pivot that failed', REQUESTED, end('CONCLUDED', 'SOURCE', SOURCE, 'I/O error'), SOURCE],
    ['is set back after an end without a pivot', BEFORE, end('CONCLUDED', 'SOURCE', SOURCE), SOURCE],
    [
      'is set back without a record: it may have been written',
      JOBS['with a gate'],
      end('CONCLUDED', 'SOURCE', SOURCE),
      SOURCE,
    ],
    ['is set back to a snapshot that was taken since', BEFORE, end('CONCLUDED', 'SOURCE', SNAPSHOT), SNAPSHOT],
    ['is set back if QEMU has ended before the pivot', BEFORE, end('QEMU_ENDED', 'NOWHERE'), SOURCE],
    ['is not known if QEMU has ended in the pivot', REQUESTED, end('QEMU_ENDED', 'NOWHERE'), undefined],
    ['is not known of a job that was given up', BEFORE, end('GIVEN_UP', 'NOWHERE'), undefined],
    ['is set back if the disk was unplugged', BEFORE, end('CONCLUDED', 'NOWHERE', undefined, 'I/O error'), SOURCE],
    ['is not known if the disk was unplugged in the pivot', REQUESTED, end('VANISHED', 'NOWHERE'), undefined],
    [
      'is right on a destination that another QEMU has opened',
      REQUESTED,
      end('VANISHED', 'ELSEWHERE', DESTINATION),
      undefined,
    ],
    ['is not known if the guest has left', BEFORE, end('CONCLUDED', 'ELSEWHERE'), undefined],
    ['is left alone if nobody fences it', JOBS['without an owner'], end('CONCLUDED', 'SOURCE', SOURCE), undefined],
    ['is left alone before the gate', JOBS['that is READY'], end('CONCLUDED', 'SOURCE', SOURCE), undefined],
  ])('%s', (_what, job, concluded, expected) => {
    expect(setConfigBackTo(job, concluded)).toBe(expected);
  });
});
