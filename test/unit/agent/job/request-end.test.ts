/** Abort, by the state of the job: the entries that it adds, the refusals, and the answer at the end of the job. */
import { describe, expect, it } from 'vitest';
import { endedAs, requestEnd } from '../../../../src/agent/job/request-end.ts';
import { JobLog } from '../../../../src/agent/journal/job-log.ts';
import { BlockJobError, failure } from '../../../../src/core/errors.ts';
import type { Accepted, EntryBody } from '../../../../src/core/job/journal-entry.ts';
import type { AbortRequest } from '../../../../src/core/requests.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED, CANCEL, CONCLUDED, ended, FORCE, JOB, jobOf, pivot, READY, RUNNING } from '../../core/stories.ts';

const SOFT: AbortRequest = {
  job: { jobId: JOB },
  pivot: false,
  returnImmediately: false,
  force: false,
  pauseGuest: undefined,
  requestId: '',
};
const BY_FORCE = { ...SOFT, force: true };
const PIVOT = { ...SOFT, pivot: true };
const PIVOTING = [RUNNING, READY, pivot()];
const CANCELLING = [RUNNING, READY, CANCEL];

/** The entries that the request adds, or the reason of its refusal. */
async function result(
  entries: readonly EntryBody[],
  request: AbortRequest,
  accepted = ACCEPTED,
): Promise<readonly string[]> {
  await using dir = await testDir();
  const log = await JobLog.begin(journalsIn(dir.path), accepted);
  for (const entry of entries) await log.append(entry);
  const before = log.job.revision;
  const refusal = await requestEnd(log, request, undefined).catch((error: unknown) => error);
  const added = log.revisions.slice(before).map(({ entry }) => entry.entry);
  await log.close();
  if (refusal === undefined) return added;
  if (!(refusal instanceof BlockJobError)) throw refusal;
  return [...added, refusal.reason];
}

describe('an abort', () => {
  it.each<[string, readonly EntryBody[], AbortRequest, string]>([
    ['of a job that is STARTING gives it up', [], SOFT, 'cancel-requested'],
    ['of a job that runs cancels it', [RUNNING], SOFT, 'cancel-requested'],
    ['with pivot is refused before READY', [RUNNING], PIVOT, 'JOB_NOT_READY'],
    ['with pivot is written down at READY', [RUNNING, READY], PIVOT, 'pivot-requested'],
    ['without force is refused during a pivot', PIVOTING, SOFT, 'JOB_ENDING'],
    ['with force is written down during a pivot', PIVOTING, BY_FORCE, 'cancel-requested'],
    ['with pivot is refused while the job is being cancelled', CANCELLING, PIVOT, 'JOB_ENDING'],
    ['with force is written down while the job is being cancelled', CANCELLING, BY_FORCE, 'cancel-requested'],
    ['that asks for the same again changes nothing', CANCELLING, SOFT, ''],
    [
      'with force gives up the clean-up of a job whose end is known',
      [RUNNING, CONCLUDED],
      BY_FORCE,
      'give-up-requested',
    ],
    ['is refused after the end', [RUNNING, CANCEL, ended('CANCELLED')], SOFT, 'JOB_ENDED'],
  ])('%s', async (_what, entries, request, expected) => {
    expect(await result(entries, request)).toEqual(expected === '' ? [] : [expected]);
  });

  describe('of a job whose configuration has an external owner', () => {
    const GATED: Accepted = { ...ACCEPTED, options: { ...ACCEPTED.options, configOwner: 'EXTERNAL' } };
    const OPENED: EntryBody = { entry: 'gate-opened', token: 'token' };
    const AT_GATE = [RUNNING, READY, OPENED];
    const RECORDED: readonly EntryBody[] = [...AT_GATE, { entry: 'config-recorded', token: 'token' }];
    const UNDER_WAY: readonly EntryBody[] = [
      ...AT_GATE,
      { entry: 'pivot-requested', pauseGuest: 'AUTO', token: 'token' },
    ];
    const FITTING = { ...PIVOT, record: { token: 'token' } };
    const STALE = { ...PIVOT, record: { token: 'stale' } };
    const ONLY = { ...FITTING, recordOnly: true };

    it.each<[string, readonly EntryBody[], AbortRequest, readonly string[]]>([
      ['with pivot is refused before READY', [RUNNING], FITTING, ['JOB_NOT_READY']],
      ['with pivot opens the gate, and is refused', [RUNNING, READY], PIVOT, ['gate-opened', 'CONFIG_NOT_RECORDED']],
      ['with pivot is refused at the gate', AT_GATE, PIVOT, ['CONFIG_NOT_RECORDED']],
      ['with the record of another attempt is refused', AT_GATE, STALE, ['CONFIG_RECORD_STALE']],
      ['with the fitting record pivots', AT_GATE, FITTING, ['pivot-requested']],
      ['with pivot goes through after the record', RECORDED, PIVOT, ['pivot-requested']],
      ['with another record is refused after the record, too', RECORDED, STALE, ['CONFIG_RECORD_STALE']],
      ['only records', AT_GATE, ONLY, ['config-recorded']],
      ['records nothing twice', RECORDED, ONLY, []],
      ['records nothing during the pivot', UNDER_WAY, ONLY, []],
      ['does not record another attempt', AT_GATE, { ...STALE, recordOnly: true }, ['CONFIG_RECORD_STALE']],
      ['may repeat the pivot', UNDER_WAY, FITTING, []],
      ['does not repeat it with another record', UNDER_WAY, STALE, ['CONFIG_RECORD_STALE']],
      ['without pivot needs no record', AT_GATE, SOFT, ['cancel-requested']],
      ['is too late when the job is being cancelled', [...RECORDED, CANCEL], FITTING, ['JOB_ENDING']],
      ['records nothing when the job is being cancelled', [...AT_GATE, CANCEL], ONLY, ['JOB_ENDING']],
      ['is too late when the job has concluded', [...AT_GATE, CONCLUDED], FITTING, ['JOB_ENDING']],
      ['is too late without a record, too', [...AT_GATE, CONCLUDED], PIVOT, ['JOB_ENDING']],
      ['with another record is refused then, too', [...UNDER_WAY, CONCLUDED], STALE, ['CONFIG_RECORD_STALE']],
    ])('%s', async (_what, entries, request, expected) => {
      expect(await result(entries, request, GATED)).toEqual(expected);
    });

    it('only records once if it comes twice at the same time', async () => {
      await using dir = await testDir();
      const log = await JobLog.begin(journalsIn(dir.path), GATED);
      for (const entry of AT_GATE) await log.append(entry);
      await Promise.all([requestEnd(log, ONLY, undefined), requestEnd(log, ONLY, undefined)]);
      expect(log.revisions.slice(AT_GATE.length + 1).map(({ entry }) => entry.entry)).toEqual(['config-recorded']);
      await log.close();
    });

    it('with a record is refused if the job has no gate', async () => {
      expect(await result([RUNNING, READY], FITTING)).toEqual(['CONFIG_RECORD_STALE']);
    });
  });

  it('with pivot fails with the error of the job, or with JOB_ENDED if it has none', () => {
    const lost = failure('JOB_LOST', { job: JOB, why: 'a test' });
    const failed = jobOf(RUNNING, READY, pivot(), { ...ended('FAILED'), failure: lost } as EntryBody);
    expect(endedAs(failed).failure).toEqual(lost);
    const cancelled = jobOf(RUNNING, READY, pivot(), FORCE, ended('CANCELLED'));
    expect(endedAs(cancelled)).toMatchObject({ reason: 'JOB_ENDED', failure: { metadata: { state: 'CANCELLED' } } });
  });
});
