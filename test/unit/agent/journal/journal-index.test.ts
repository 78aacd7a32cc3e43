/**
 * The facts about ended jobs without their journals: the index is never believed over a journal, whatever has happened
 * to the index.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { EndedJob, openedLog } from '../../../../src/agent/journal/ended-job.ts';
import { encodeLine } from '../../../../src/agent/journal/journal.ts';
import { openJobs } from '../../../../src/agent/journal/start-up.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { present } from '../../../support/checks.ts';
import { run, type TestDir, testDir } from '../../../support/real-qemu/qemu.ts';
import { TestAgent } from '../../../support/service/agent.ts';
import { journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED, CONCLUDED, CREATED, ended, journalOf, RUNNING } from '../../core/stories.ts';

const opened: string[] = [];
vi.mock(import('node:fs'), async (original) => {
  const fs = await original();
  const openSync: typeof fs.openSync = (path, ...rest) => {
    opened.push(String(path));
    return fs.openSync(path, ...rest);
  };
  return { ...fs, openSync };
});
afterEach(() => void opened.splice(0));

const JOBS = 40;
const RUNS = 'bjffffffffffffffff';
const idOf = (at: number) => `bj${String(at).padStart(16, '0')}`;

const storyOf = (job: string, ...more: readonly EntryBody[]) =>
  journalOf({ ...ACCEPTED, job }, CREATED, RUNNING, ...more).map((entry) => {
    const request = { id: `start ${job}`, digest: 'd' };
    return encodeLine({ ...entry, ...(entry.revision === 1 && { request }) });
  });
const endOf = (job: string, state: 'CANCELLED' | 'COMPLETED') => storyOf(job, CONCLUDED, ended(state)).join('');

/** A state folder with jobs that have ended, and one that runs. */
async function withJobs(): Promise<TestDir> {
  const dir = await testDir();
  await mkdir(join(dir.path, 'jobs'));
  for (let at = 0; at < JOBS; at += 1) await writeFile(journal(dir, idOf(at)), endOf(idOf(at), 'CANCELLED'));
  await writeFile(journal(dir, RUNS), storyOf(RUNS).join(''));
  return dir;
}

function journal(dir: TestDir, job: string): string {
  return join(dir.path, 'jobs', `${job}.jsonl`);
}

/** The knowledge of a service that starts there, and the journals that it has opened for that. */
async function started(dir: TestDir) {
  opened.splice(0);
  const { jobs: found, saveIndex } = await openJobs(journalsIn(join(dir.path, 'jobs')), pino({ level: 'silent' }));
  await saveIndex();
  for (const one of found) if (!(one instanceof EndedJob)) await one.close();
  const told = found.map((one) => (one instanceof EndedJob ? one.told : one.job.accepted.job));
  const read = opened.map((path) => path.slice(-'0000.jsonl'.length, -'.jsonl'.length));
  return { found, told, read };
}

const LAST = '0039';
const index = (dir: TestDir) => join(dir.path, 'ended-jobs');

describe('a service that starts', () => {
  it('opens each journal once, and at its next start none of an ended job', async () => {
    await using dir = await withJobs();
    const first = await started(dir);
    expect(first.read).toHaveLength(JOBS + 1);
    expect(new Set(first.read).size).toBe(JOBS + 1);
    const second = await started(dir);
    expect(second.read).toEqual(['ffff']);
    expect(second.told).toEqual(first.told);
    expect((await stat(index(dir))).mode & 0o777).toBe(0o600);
  });

  it('answers before the index is written, and has written it when it is closed', async () => {
    await using dir = await withJobs();
    const service = await TestAgent.start({ dir: dir.path, qmp: {}, allow: [] });
    expect(existsSync(index(dir))).toBe(false);
    await service[Symbol.asyncDispose]();
    expect(existsSync(index(dir))).toBe(true);
  });

  it('reports about a job whose journal it has not read what the journal says', async () => {
    await using dir = await withJobs();
    await started(dir);
    const { found } = await started(dir);
    const log = await openedLog(present(found[0]));
    expect(log.requests).toEqual([{ id: `start ${log.job.accepted.job}`, digest: 'd' }]);
    expect(log.at(2)?.entry.entry).toBe('step-done');
    expect(log.job).toMatchObject({ state: 'CANCELLED', accepted: { unused: ACCEPTED.unused } });
    expect(await openedLog(present(found[0]))).toBe(log);
  });

  it.each<[what: string, damage: (dir: TestDir) => Promise<unknown>]>([
    ['is gone', async (dir) => await rm(index(dir))],
    ['is empty', async (dir) => await truncate(index(dir), 0)],
    ['was never finished', async (dir) => await truncate(index(dir), 1000)],
    ['is a folder', async (dir) => await rm(index(dir)).then(() => mkdir(index(dir)))],
    ['is a FIFO', async (dir) => await rm(index(dir)).then(() => run('mkfifo', [index(dir)]))],
    ['is something else', async (dir) => await writeFile(index(dir), 'x'.repeat(3_000_000))],
    ['is of another version', async (dir) => await changed(dir, '"version":2', '"version":3')],
    ['lies, and has no right checksum', async (dir) => await changed(dir, 'CANCELLED', 'COMPLETED')],
    ['is half written beside', async (dir) => await rename(index(dir), `${index(dir)}.new`)],
  ])('knows all the same where what was known %s', async (_what, damage) => {
    await using dir = await withJobs();
    const { told } = await started(dir);
    await damage(dir);
    const again = await started(dir);
    expect(again.told).toEqual(told);
    expect(again.read.length).toBeGreaterThan(1);
  });

  it('reads only the journals of damaged lines', async () => {
    await using dir = await withJobs();
    const { told } = await started(dir);
    const bytes = await readFile(index(dir));
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 20) ^ 1, bytes.length - 20);
    await writeFile(index(dir), bytes);
    const again = await started(dir);
    expect(again.told).toEqual(told);
    expect(again.read.toSorted()).toHaveLength(2);
  });

  it.each<[what: string, change: (path: string) => Promise<unknown>]>([
    ['was written to', async (path) => await writeFile(path, endOf(idOf(39), 'COMPLETED'))],
    ['is another file', async (path) => await other(path)],
    ['was written to by somebody who has set its time back', async (path) => await unseen(path)],
  ])('believes a journal that %s', async (_what, change) => {
    await using dir = await withJobs();
    await started(dir);
    await change(journal(dir, idOf(39)));
    const { found, read } = await started(dir);
    expect(read).toContain(LAST);
    const job = found.find((one) => one.job.accepted.job === idOf(39));
    expect(job?.job.state).toBe('COMPLETED');
    expect((await started(dir)).read).toEqual(['ffff']);
  });

  it('does not know a job whose journal is gone', async () => {
    await using dir = await withJobs();
    await started(dir);
    await rm(journal(dir, idOf(39)));
    const { found } = await started(dir);
    expect(found.map(({ job }) => job.accepted.job)).not.toContain(idOf(39));
  });

  it('continues if the index cannot be written', async () => {
    await using dir = await withJobs();
    await mkdir(`${index(dir)}.new`);
    expect((await started(dir)).told).toHaveLength(JOBS + 1);
    expect((await readdir(dir.path)).toSorted()).toEqual(['ended-jobs.new', 'jobs']);
  });
});

describe('a journal of an ended job that is gone when somebody asks for it', () => {
  it('is reported, with its name', async () => {
    await using dir = await withJobs();
    const { found } = await started(dir);
    await rm(journal(dir, idOf(0)));
    const one = present(found.find(({ job }) => job.accepted.job === idOf(0)));
    await expect(openedLog(one)).rejects.toMatchObject({
      failure: { reason: 'ACCESS_DENIED', metadata: { path: journal(dir, idOf(0)) } },
    });
  });
});

async function changed(dir: TestDir, from: string, to: string): Promise<void> {
  await writeFile(index(dir), (await readFile(index(dir), 'utf8')).replaceAll(from, to));
}

async function other(path: string): Promise<void> {
  await writeFile(`${path}.other`, endOf(idOf(39), 'COMPLETED'));
  await rename(`${path}.other`, path);
}

async function unseen(path: string): Promise<void> {
  const { atime, mtime } = await stat(path);
  await writeFile(path, endOf(idOf(39), 'COMPLETED'));
  await utimes(path, atime, mtime);
}
