/** A jobs folder with files in it that nobody expects: each is logged, and the rest continues. */
import { spawnSync } from 'node:child_process';
import { copyFile, mkdir, readdir, readFile, rename, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { openedLog } from '../../../../src/agent/journal/ended-job.ts';
import { encodeLine } from '../../../../src/agent/journal/journal.ts';
import { openJobs } from '../../../../src/agent/journal/start-up.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import { run, type TestDir, testDir } from '../../../support/real-qemu/qemu.ts';
import { journalsIn } from '../../../support/service/journals.ts';
import { ACCEPTED, JOB, journalOf, READY, RUNNING } from '../../core/stories.ts';

const OTHER = 'bjffeeddccbbaa9988';

function textOf(job: string, ...more: readonly EntryBody[]): string {
  return journalOf({ ...ACCEPTED, job }, ...more)
    .map(encodeLine)
    .join('');
}

/** The jobs that a service finds in the folder when it starts, and the files that it logs. */
async function opened(dir: TestDir): Promise<{ jobs: Record<string, string>; told: readonly string[] }> {
  const told: string[] = [];
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      const { level, file } = JSON.parse(chunk.toString()) as { level: number; file?: string };
      if (level >= 50) told.push(file ?? '?');
      done();
    },
  });
  const { jobs: logs } = await openJobs(journalsIn(dir.path), pino(sink));
  for (const log of logs) await (await openedLog(log)).close();
  return { jobs: Object.fromEntries(logs.map(({ job }) => [job.accepted.job, job.state])), told: told.toSorted() };
}

/** A folder with one journal of a job that runs. */
async function withJob(): Promise<TestDir> {
  const dir = await testDir();
  await writeFile(join(dir.path, `${JOB}.jsonl`), textOf(JOB, RUNNING, READY));
  return dir;
}

const CAN_BE_IMMUTABLE = await (async () => {
  await using dir = await testDir();
  await writeFile(join(dir.path, 'x'), '');
  const can = spawnSync('chattr', ['+i', join(dir.path, 'x')]).status === 0;
  spawnSync('chattr', ['-i', join(dir.path, 'x')]);
  return can;
})();

describe('a jobs folder', () => {
  it.each<[what: string, name: string, make: (path: string) => Promise<unknown>]>([
    ['a FIFO', 'x.jsonl', async (path) => await run('mkfifo', [path])],
    ['a FIFO of a job’s name', `${OTHER}.jsonl`, async (path) => await run('mkfifo', [path])],
    ['a folder', `${OTHER}.jsonl`, async (path) => await mkdir(path)],
    ['a symbolic link', `${OTHER}.jsonl`, async (path) => await symlink('/etc/hostname', path)],
    ['a link that leads nowhere', `${OTHER}.jsonl`, async (path) => await symlink('nowhere', path)],
    ['an empty file of another name', 'notes.jsonl', async (path) => await writeFile(path, '')],
    ['somebody’s notes', 'notes.jsonl', async (path) => await writeFile(path, 'do not delete')],
    ['a file that is not a journal', `${OTHER}.jsonl`, async (path) => await writeFile(path, 'a\nb\n')],
    ['a huge file', `${OTHER}.jsonl`, async (path) => await writeFile(path, '').then(() => truncate(path, 2 ** 40))],
    [
      'a journal whose job has the name of a path',
      'x.jsonl',
      async (path) => await writeFile(path, textOf('../../escaped', RUNNING)),
    ],
  ])('has %s: that is logged and stays, and the jobs continue', async (_what, name, make) => {
    await using dir = await withJob();
    await make(join(dir.path, name));
    expect(await opened(dir)).toEqual({ jobs: { [JOB]: 'READY' }, told: [name] });
    expect((await readdir(dir.path)).toSorted()).toEqual([`${JOB}.jsonl`, name].toSorted());
  });

  it('has an empty journal, of a job that was never accepted: it is removed', async () => {
    await using dir = await withJob();
    await writeFile(join(dir.path, `${OTHER}.jsonl`), '');
    expect(await opened(dir)).toEqual({ jobs: { [JOB]: 'READY' }, told: [] });
    expect(await readdir(dir.path)).toEqual([`${JOB}.jsonl`]);
  });

  it.skipIf(!CAN_BE_IMMUTABLE)('has an empty journal that cannot be removed: it is logged', async () => {
    await using dir = await withJob();
    const path = join(dir.path, `${OTHER}.jsonl`);
    await writeFile(path, '');
    await run('chattr', ['+i', path]);
    try {
      expect(await opened(dir)).toEqual({ jobs: { [JOB]: 'READY' }, told: [`${OTHER}.jsonl`] });
    } finally {
      await run('chattr', ['-i', path]);
    }
  });

  it.skipIf(!CAN_BE_IMMUTABLE)('has a journal that cannot be written: its job is known', async () => {
    await using dir = await withJob();
    const path = join(dir.path, `${JOB}.jsonl`);
    await run('chattr', ['+i', path]);
    try {
      expect(await opened(dir)).toEqual({ jobs: { [JOB]: 'READY' }, told: [] });
    } finally {
      await run('chattr', ['-i', path]);
    }
  });

  // As the service wrote it before it recorded the place of the process.
  it('has a journal of an older service: its job goes on', async () => {
    await using dir = await testDir();
    await copyFile(join(import.meta.dirname, 'before-namespaces.jsonl'), join(dir.path, `${JOB}.jsonl`));
    expect(await opened(dir)).toEqual({ jobs: { [JOB]: 'PIVOTING' }, told: [] });
    const [first = ''] = (await readFile(join(dir.path, `${JOB}.jsonl`), 'utf8')).split('\n');
    expect(JSON.parse(first.slice(9))).toMatchObject({ process: { pid: 1234, startTime: '5678' } });
    expect(first).not.toContain('pidNamespace');
  });

  it('has a journal under another name: it gets its own back, as the id in it decides', async () => {
    await using dir = await withJob();
    const text = await readFile(join(dir.path, `${JOB}.jsonl`), 'utf8');
    await rename(join(dir.path, `${JOB}.jsonl`), join(dir.path, `${JOB}.old.jsonl`));
    expect(await opened(dir)).toEqual({ jobs: { [JOB]: 'READY' }, told: [] });
    expect(await readdir(dir.path)).toEqual([`${JOB}.jsonl`]);
    expect(await readFile(join(dir.path, `${JOB}.jsonl`), 'utf8')).toBe(text);
  });

  it('has a copy of a journal: the one of the right name counts, and nobody writes to the other', async () => {
    await using dir = await withJob();
    await copyFile(join(dir.path, `${JOB}.jsonl`), join(dir.path, `${JOB}-backup.jsonl`));
    expect(await opened(dir)).toEqual({ jobs: { [JOB]: 'READY' }, told: [`${JOB}-backup.jsonl`] });
  });

  // It may be older: events that it does not have may have happened.
  it('has a copy beside a journal that cannot be read: neither counts', async () => {
    await using dir = await withJob();
    await copyFile(join(dir.path, `${JOB}.jsonl`), join(dir.path, `${JOB}-backup.jsonl`));
    await writeFile(join(dir.path, `${JOB}.jsonl`), 'a\nb\n');
    expect(await opened(dir)).toEqual({ jobs: {}, told: [`${JOB}-backup.jsonl`, `${JOB}.jsonl`] });
  });

  it('has two copies and no journal of the right name: neither counts', async () => {
    await using dir = await withJob();
    await copyFile(join(dir.path, `${JOB}.jsonl`), join(dir.path, 'a.jsonl'));
    await rename(join(dir.path, `${JOB}.jsonl`), join(dir.path, 'b.jsonl'));
    expect(await opened(dir)).toEqual({ jobs: {}, told: ['a.jsonl', 'b.jsonl'] });
  });
});
