import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { JobLog } from '../../../../src/agent/journal/job-log.ts';
import { decodeJournal, Journal, type ReadJournal } from '../../../../src/agent/journal/journal.ts';
import { IllegalTransition } from '../../../../src/core/job/job.ts';
import type { EntryBody, JournalEntry } from '../../../../src/core/job/journal-entry.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { allJournals, journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED, CANCEL, JOB, OUTCOME, pivot, READY, RUNNING } from '../../core/stories.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

async function onDisk(folder: string): Promise<ReadJournal> {
  const read = decodeJournal(await readFile(join(folder, `${JOB}.jsonl`)));
  if (read === undefined) throw new Error('the job was never accepted');
  return read;
}

const step = (name: string): EntryBody => ({ entry: 'step-started', step: name });

describe('a job’s log', () => {
  it('has the job on disk when it begins', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    expect(log.job).toMatchObject({ state: 'STARTING', revision: 1 });
    expect((await onDisk(dir.path)).job).toEqual(log.job);
    await log.close();
  });

  it('leaves nothing of a job that could not be written down', async () => {
    await using dir = await testDir();
    vi.spyOn(Journal.prototype, 'append').mockRejectedValueOnce(new Error('ENOSPC'));
    await expect(JobLog.begin(journalsIn(dir.path), ACCEPTED)).rejects.toThrow('ENOSPC');
    expect(await allJournals(dir.path)).toEqual([]);
  });

  it('writes entries that the state allows, and nothing else', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    await expect(log.append(READY)).rejects.toThrow(IllegalTransition);
    await expect(log.append(pivot())).rejects.toThrow('pivot-requested of job');
    expect(await log.offer(READY, { otherwise: () => 'not now' })).toBe('not now');
    expect((await log.append(RUNNING)).state).toBe('RUNNING');
    await expect(log.append(RUNNING)).rejects.toThrow(IllegalTransition);
    expect((await onDisk(dir.path)).entries.map(({ entry }) => entry)).toEqual(['accepted', 'running']);
    await log.close();
  });

  it('writes an entry from which nothing follows together with the next one', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    const append = vi.spyOn(Journal.prototype, 'append');
    log.withNext({ entry: 'step-done', step: 'first' });
    expect([log.job.steps.get('first'), log.ahead.steps.get('first')]).toEqual([undefined, 'DONE']);
    expect((await onDisk(dir.path)).entries).toHaveLength(1);
    append.mockRejectedValueOnce(new Error('EIO'));
    await expect(log.append(step('second'))).rejects.toThrow('EIO');
    expect([log.job.revision, log.ahead.revision]).toEqual([1, 2]);
    await log.append(step('second'));
    expect(append).toHaveBeenCalledTimes(2);
    const { entries, job } = await onDisk(dir.path);
    expect(entries.slice(1)).toEqual([
      expect.objectContaining({ entry: 'step-done', step: 'first', revision: 2 }),
      expect.objectContaining({ entry: 'step-started', step: 'second', revision: 3, joined: true }),
    ]);
    expect(log.job).toEqual(job);
    expect(log.ahead).toEqual(job);
    await log.append(RUNNING);
    expect((await onDisk(dir.path)).entries.slice(3)).toEqual([expect.not.objectContaining({ joined: true })]);
    await log.close();
  });

  it('writes several entries at once: all, or none if the state does not allow one of them', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    const append = vi.spyOn(Journal.prototype, 'append');
    await expect(log.append(step('first'), RUNNING, RUNNING)).rejects.toThrow(IllegalTransition);
    expect([log.job.revision, (await onDisk(dir.path)).entries.length]).toEqual([1, 1]);
    await log.append(step('first'), step('second'));
    expect(append).toHaveBeenCalledTimes(1);
    const { entries, job } = await onDisk(dir.path);
    expect(entries.slice(1)).toMatchObject([{ step: 'first' }, { step: 'second', joined: true }]);
    expect(log.job).toEqual(job);
    await log.close();
  });

  it('announces entries of one write in their order, and marks the last one as requested', async () => {
    await using dir = await testDir();
    const journals = journalsIn(dir.path);
    const log = await JobLog.begin(journals, ACCEPTED);
    const heard: string[] = [];
    using _listening = journals.clock.order.onEntry(({ entry }) => void heard.push(entry.entry));
    log.withNext({ entry: 'step-done', step: 'first' });
    await log.offer(CANCEL, { request: { id: 'end', digest: '' }, otherwise: () => undefined });
    expect(heard).toEqual(['step-done', 'cancel-requested']);
    expect(log.revisionOfRequest('end')).toBe(3);
    await log.close();
  });

  it('keeps the order of entries that are appended at once, their revisions without gaps', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    const names = Array.from({ length: 50 }, (_, index) => `step ${index}`);
    const jobs = await Promise.all(names.map(async (name) => await log.append(step(name))));
    expect(jobs.map((job) => job.revision)).toEqual(names.map((_, index) => index + 2));
    const { entries } = await onDisk(dir.path);
    expect(entries.slice(1)).toEqual(
      names.map((name, index) => expect.objectContaining({ step: name, revision: index + 2 })),
    );
    await log.close();
  });

  it('accepts only one of two contradictory requests that come at once', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    await log.append(RUNNING);
    await log.append(READY);
    const answers = await Promise.all([
      log.offer(pivot(), { otherwise: () => 'too late' }),
      log.offer({ entry: 'finish-requested' }, { otherwise: () => 'too late' }),
    ]);
    expect(answers).toMatchObject([{ state: 'PIVOTING' }, 'too late']);
    await log.close();
  });

  it('shows an entry to nobody before it is on disk, and never one that is not', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    const real: (entry: JournalEntry) => Promise<void> = Reflect.get(Journal.prototype, 'append');
    const seen: number[] = [];
    vi.spyOn(Journal.prototype, 'append').mockImplementation(async function observed(this: Journal, entry) {
      await real.call(this, entry);
      seen.push(log.job.revision);
    });
    const before = log.changed.now;
    await log.append(RUNNING);
    expect(seen).toEqual([1]);
    expect(log.changed.now).toBe(before + 1);

    vi.spyOn(Journal.prototype, 'append').mockRejectedValueOnce(new Error('ENOSPC'));
    await expect(log.append(READY)).rejects.toThrow('ENOSPC');
    expect(log.job.revision).toBe(2);
    expect(log.changed.now).toBe(before + 1);
    // The next one in the lane is not affected.
    vi.restoreAllMocks();
    expect((await log.append(READY)).revision).toBe(3);
    await log.close();
  });

  it('continues at the end of its journal', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    await log.append(RUNNING);
    await log.append(READY);
    await log.close();
    const again = await JobLog.reopen(journalsIn(dir.path), await onDisk(dir.path));
    expect(again.job).toEqual(log.job);
    expect([1, 2, 3, 4].map((revision) => again.at(revision)?.job.state)).toEqual([
      'STARTING',
      'RUNNING',
      'READY',
      undefined,
    ]);
    expect((await again.append(CANCEL)).revision).toBe(4);
    expect((await onDisk(dir.path)).job.state).toBe('CANCELLING');
    await again.close();
  });

  it('knows whether the job has ended, was refused, and when something happened first', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    await log.append(step('a'));
    await log.append(step('b'));
    expect([log.revisionOf('step-started'), log.revisionOf('ready')]).toEqual([2, undefined]);
    expect([log.refused, log.ended]).toEqual([false, false]);
    await log.append({ entry: 'refused', failure: { reason: 'BUG', text: '', metadata: {} } });
    expect([log.refused, log.ended]).toEqual([true, true]);
    await log.remove();
    expect(await allJournals(dir.path)).toEqual([]);
  });

  it('takes nothing after the end', async () => {
    await using dir = await testDir();
    const log = await JobLog.begin(journalsIn(dir.path), ACCEPTED);
    await log.append(RUNNING);
    await log.append({ entry: 'ended', state: 'FAILED', failure: undefined, outcome: OUTCOME });
    await expect(log.append(step('late'))).rejects.toThrow(IllegalTransition);
    expect(await log.offer(CANCEL, { otherwise: () => 'too late' })).toBe('too late');
    expect((await onDisk(dir.path)).entries).toHaveLength(3);
    await log.close();
  });
});
