/** The answers to a caller of SetSpeed, Pause and Resume at any time: only the log of the job is needed. */
import { describe, expect, it } from 'vitest';
import { type Change, changeDone, requestChange } from '../../../../src/agent/job/request-change.ts';
import { JobLog } from '../../../../src/agent/journal/job-log.ts';
import { BlockJobError, failure } from '../../../../src/core/errors.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { present } from '../../../support/checks.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { allJournals, journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED, CANCEL, CONCLUDED, ended, JOB, pivot, READY, RUNNING } from '../../core/stories.ts';

const SPEED: Change = { entry: 'speed-requested', bandwidthBytesPerSecond: 7 };
const PAUSE: Change = { entry: 'pause-requested' };
const RESUME: Change = { entry: 'resume-requested' };
const USER: EntryBody = { entry: 'paused', reason: 'USER' };
const MARK = { id: 'once', digest: 'd' };
const END = [CANCEL, CONCLUDED, ended('CANCELLED')];
const QEMU_SAYS_NO = failure('REFUSED_BY_QEMU', { domain: 'vm1', doing: 'setting the limit', qemuText: 'no' });
const limit = (bandwidthBytesPerSecond: number): EntryBody => ({ entry: 'speed', bandwidthBytesPerSecond });
const DONE = 'answered';

/** The end of the call: the reason of its error, or its answer. */
async function answer(asking: Promise<void>): Promise<string> {
  try {
    await asking;
    return DONE;
  } catch (error) {
    if (error instanceof BlockJobError) return error.failure.reason;
    throw error;
  }
}

/** Without it an unanswered call would delay the test until its own limit. */
const AT_ONCE = AbortSignal.abort(new BlockJobError(failure('BUG', { id: 'it-waits' })));

describe.each<[string, Change, readonly EntryBody[], readonly EntryBody[], string]>([
  ['a limit that QEMU took', SPEED, [], [limit(7)], DONE],
  ['a limit that another request has replaced', SPEED, [], [{ ...SPEED, bandwidthBytesPerSecond: 8 }, limit(8)], DONE],
  ['a limit, and the job has concluded since', SPEED, [], [CONCLUDED], 'JOB_ENDING'],
  ['a limit that came too late', SPEED, [], [CONCLUDED, ended('FAILED')], 'JOB_ENDED'],
  [
    'a limit that QEMU has refused',
    SPEED,
    [],
    [{ entry: 'change-refused', change: 'SPEED', failure: QEMU_SAYS_NO }],
    'REFUSED_BY_QEMU',
  ],
  ['a pause', PAUSE, [], [USER], DONE],
  ['a pause of a job that was already paused', PAUSE, [USER], [], DONE],
  ['a pause, and then a request to cancel the job', PAUSE, [], [CANCEL], 'JOB_ENDING'],
  ['a pause, and then a request to pivot the job', PAUSE, [READY], [pivot()], 'JOB_ENDING'],
  ['a pause that was undone', PAUSE, [], [RESUME, { entry: 'resumed' }], DONE],
  ['a resume', RESUME, [USER], [{ entry: 'resumed' }], DONE],
  ['a resume of a job that runs', RESUME, [], [], DONE],
  ['a resume that outlives the wish for an end', RESUME, [USER], [CANCEL, { entry: 'resumed' }], DONE],
  ['a resume that came too late', RESUME, [USER], [CONCLUDED, ended('FAILED')], 'JOB_ENDED'],
])('%s', (_name, change, before, after, expected) => {
  it('is answered at once, and the same when it is repeated after its end and after a restart', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    for (const entry of [RUNNING, ...before]) await log.append(entry);
    const since = present(await requestChange(log, change, MARK));
    const first = answer(changeDone(log, change, since, new AbortController().signal));
    for (const entry of after) await log.append(entry);
    expect([expected, 'JOB_ENDING']).toContain(await first);
    expect(await answer(changeDone(log, change, present(log.revisionOfRequest(MARK.id)), AT_ONCE))).toBe(expected);

    for (const entry of END) if (!log.ended) await log.append(entry).catch(() => undefined);
    await log.close();
    const [{ read } = { read: undefined }] = await allJournals(dir.path);
    if (read === undefined || read instanceof Error) throw new Error('the journal cannot be read');
    const again = JobLog.ended(journalsIn(dir.path), read);
    const then = again.revisionOfRequest(MARK.id);
    const late = expected === 'JOB_ENDING' ? 'JOB_ENDED' : expected;
    expect(await answer(changeDone(again, change, present(then), AT_ONCE))).toBe(late);
    expect(again.job).toMatchObject({ wantsPaused: undefined, wantsBandwidth: undefined });
  });
});

it('a change that is requested after the end is refused, with and without a request_id', async () => {
  await using dir = await testDir();
  const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
  for (const entry of [RUNNING, ...END]) await log.append(entry);
  for (const change of [SPEED, PAUSE, RESUME]) {
    for (const mark of [undefined, MARK]) {
      await expect(requestChange(log, change, mark)).rejects.toMatchObject({
        failure: { reason: 'JOB_ENDED', metadata: { job: JOB, state: 'CANCELLED' } },
      });
    }
  }
  await log.close();
});
