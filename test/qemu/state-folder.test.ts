/**
 * The folder of the journals: one service has it, a full one refuses new jobs and does not harm running ones, old jobs
 * go.
 */
import { readdir, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { encodeLine } from '../../src/agent/journal/journal.ts';
import { StateFolder } from '../../src/agent/journal/state-folder.ts';
import type { JournalEntry } from '../../src/core/job/journal-entry.ts';
import { eventually, present } from '../support/checks.ts';
import { FragileFileSystem } from '../support/images/power-cut.ts';
import { canMount, fill, smallFileSystem } from '../support/images/small-file-system.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refusalOf, refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const MOUNTS = canMount();

function copyOf({ disk, dir }: Machine, name = 'copy') {
  return { disk, destination: { target: { $case: 'file', value: join(dir, name) } } } as const;
}

const MOST_ID_LENGTH = 128;

/**
 * The length of an id so that entries of this size fill the remaining room: the last one, the last two, or one more.
 */
function idLength(left: number, entryBytes: number | undefined): number {
  if (entryBytes === undefined || left > 2 * (entryBytes + MOST_ID_LENGTH)) return 36;
  const entries = left > entryBytes + MOST_ID_LENGTH ? 2 : 1;
  return Math.min(Math.max(Math.floor(left / entries) - entryBytes, 1), MOST_ID_LENGTH);
}

describe('the state folder', () => {
  test('has one service at a time; a second one says so, and touches nothing', async () => {
    await using site = await Site.open();
    await using machine = await site.machine();
    const job = await site.service.startCopy({ ...copyOf(machine), bandwidthBytesPerSecond: 65_536n });
    const dir = join(site.stateFolder, '..');
    const second = Service.start({ dir, listen: `unix:${dir}/second.sock`, qmp: { x: '/nowhere' }, allow: [] });
    await expect(second).rejects.toThrow(/another blockjobd uses it; give each a --state-dir of its own/);
    expect((await site.service.getInfo(job.id)).state).toBe(Job_State.STATE_RUNNING);
    // A crash leaves no lock behind.
    await site.restart('SIGKILL', machine.disk.domain);
    expect((await site.service.getInfo(job.id)).state).toBe(Job_State.STATE_RUNNING);
  });

  test.skipIf(!MOUNTS)('that is full refuses new jobs, and harms no running one', async () => {
    await using dir = await testDir();
    await using small = await smallFileSystem(dir.path, 1);
    await using site = await Site.open([], ['--state-dir', small.path]);
    await using machine = await site.machine();
    await using other = await site.machine();
    const { guest, qemu } = machine;
    const job = await site.service.startCopy({ ...copyOf(machine), bandwidthBytesPerSecond: 65_536n });
    const filler = await fill(small.path);
    site.complaints = /A move of the job failed; trying again/;
    const refusal = await refused(site.service.startCopy(copyOf(other)));
    expect(refusal).toMatchObject({ reason: 'NO_SPACE', metadata: { path: join(small.path, 'jobs') } });
    expect(await readdir(other.dir)).not.toContain('copy');
    // A repeated request is also written down, until the journal's own last block is full to its last bytes.
    const { bsize } = await statfs(small.path);
    const journal = join(small.path, 'jobs', `${job.id}.jsonl`);
    const left = async () => bsize - ((await stat(journal)).size % bsize);
    let entryBytes: number | undefined;
    await eventually('the journal takes no more', async () => {
      const id = crypto
        .randomUUID()
        .padEnd(MOST_ID_LENGTH, '-')
        .slice(0, idLength(await left(), entryBytes));
      const before = await left();
      const again = site.service.setSpeed(job.id, 65_536n, id);
      const refusalNow = await again.then(() => undefined, refusalOf);
      entryBytes = before - (await left()) - id.length;
      return refusalNow?.reason === 'NO_SPACE' ? true : undefined;
    });
    await guest.write(0);
    // The READY of the job cannot be written down, so nobody hears it; QEMU continues.
    await qemu.admin.execute('block-job-set-speed', { device: job.id, speed: 0 });
    await eventually('the service wants to write', () =>
      /A move of the job failed/.test(site.service.log) ? true : undefined,
    );
    expect((await site.service.getInfo(job.id)).state).toBe(Job_State.STATE_RUNNING);
    await guest.write(1);
    await rm(filler);
    await site.service.until(job.id, 'STATE_READY');
    const ended = await site.service.abort({ job: byId(job.id), pivot: true });
    expect(ended.state).toBe(Job_State.STATE_COMPLETED);
    await guest.write(2);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(join(machine.dir, 'copy'), 'qcow2');
    expect((await site.service.startCopy(copyOf(other))).state).toBe(Job_State.STATE_RUNNING);
  });

  test.skipIf(!MOUNTS)('that is full, and does not say yet whose jobs it has, is used nevertheless', async () => {
    await using dir = await testDir();
    await using small = await smallFileSystem(dir.path, 1);
    (await StateFolder.take(small.path))[Symbol.dispose]();
    await fill(small.path);
    using state = await StateFolder.take(small.path);
    await expect(state.instance()).rejects.toThrow(/ENOSPC/);
    expect(await state.owner()).toMatch(/^[0-9a-f]{6}$/);
  });

  test.skipIf(!MOUNTS)(
    'with a disk that fails refuses new jobs in those words, and not as a bug of the service',
    async () => {
      await using dir = await testDir();
      await using fragile = await FragileFileSystem.make(dir.path, 16);
      await using site = await Site.open([], ['--state-dir', fragile.path]);
      await using machine = await site.machine();
      await fragile.cut();
      expect(await refused(site.service.startCopy(copyOf(machine)))).toMatchObject({
        code: status.FAILED_PRECONDITION,
        reason: 'STORAGE_FAILED',
        message: expect.stringContaining(': EIO;') as string,
      });
      expect(await readdir(machine.dir)).not.toContain('copy');
      expect(site.service.log).not.toContain('"msg":"Internal error: a bug"');
    },
  );

  test('that is gone, or a service with too many files open, is not a bug of the service', async () => {
    await using site = await Site.open();
    await using machine = await site.machine();
    const jobs = join(site.stateFolder, 'jobs');
    await rename(jobs, `${jobs}.away`);
    expect(await refused(site.service.startCopy(copyOf(machine)))).toMatchObject({
      reason: 'STORAGE_FAILED',
      metadata: { path: jobs },
      message: expect.stringContaining(': ENOENT;') as string,
    });
    await rename(`${jobs}.away`, jobs);
    const open = await readdir(`/proc/${site.service.pid}/fd`);
    await run('prlimit', ['--pid', String(site.service.pid), `--nofile=${Math.min(...open.map(Number)) + 1}:`]);
    expect(await refused(site.service.startCopy(copyOf(machine)))).toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      reason: 'LIMIT_REACHED',
    });
    expect(await readdir(machine.dir)).not.toContain('copy');
    expect(site.service.log).not.toContain('"msg":"Internal error: a bug"');
  });

  test.skipIf(!MOUNTS)('that has become read-only refuses new jobs, and says why', async () => {
    await using site = await Site.open();
    await using machine = await site.machine();
    const jobs = join(site.stateFolder, 'jobs');
    await run('mount', ['--bind', jobs, jobs]);
    try {
      await run('mount', ['-o', 'remount,bind,ro', jobs]);
      expect(await refused(site.service.startCopy(copyOf(machine)))).toMatchObject({
        reason: 'ACCESS_DENIED',
        metadata: { path: jobs },
        message: expect.stringMatching(/: EROFS .*read-only$/) as string,
      });
    } finally {
      await run('umount', [jobs]);
    }
    expect(await readdir(machine.dir)).not.toContain('copy');
    expect((await site.service.startCopy(copyOf(machine))).id).not.toBe('');
  });

  test('limits the number of running jobs, and of the watchers of one', async () => {
    await using site = await Site.open([], ['--max-jobs', '1', '--max-watchers', '2']);
    await using machine = await site.machine();
    await using other = await site.machine();
    const job = await site.service.startCopy({ ...copyOf(machine), bandwidthBytesPerSecond: 65_536n });
    const tooMany = { reason: 'TOO_MANY_JOBS', metadata: { limit: '1' } };
    expect(await refused(site.service.startCopy(copyOf(other)))).toMatchObject(tooMany);
    const plan = StartCopyRequest.fromPartial(copyOf(other));
    expect(await refused(site.service.planOf('startCopy', plan))).toMatchObject(tooMany);
    expect(await readdir(other.dir)).not.toContain('copy');

    const [one, two, three] = [1, 2, 3].map(() => site.service.watch(job.id));
    await present(one).next();
    await present(two).next();
    expect(await refused(present(three).next())).toMatchObject({
      reason: 'TOO_MANY_WATCHERS',
      metadata: { job: job.id, limit: '2' },
    });
    await present(one).return(undefined);
    await eventually('a place is free again', async () => {
      const again = site.service.watch(job.id);
      const answer = await again.next().catch(() => undefined);
      await again.return(undefined);
      return answer;
    });
    await present(two).return(undefined);
    await site.service.abort({ job: byId(job.id) });
    expect((await site.service.startCopy(copyOf(other))).id).not.toBe('');
  });

  test('forgets jobs that ended long ago, but not those with possible leftovers', async () => {
    await using site = await Site.open([], ['--keep-days', '2']);
    await using machine = await site.machine();
    await using other = await site.machine();
    const { id: only } = await site.service.startCopy({ ...copyOf(other), bandwidthBytesPerSecond: 65_536n });
    await site.service.abort({ job: byId(only) });
    const onOther = { job: { name: { $case: 'disk', value: other.disk } } } as const;
    expect(await refused(site.service.abort(onOther))).toMatchObject({ reason: 'JOB_ENDED', metadata: { job: only } });
    const ended: string[] = [];
    for (const [name, force] of [
      ['old', false],
      ['old-and-stale', true],
      ['new', false],
    ] as const) {
      const { id } = await site.service.startCopy({ ...copyOf(machine, name), requestId: name });
      await site.service.until(id, 'STATE_READY');
      await site.service.abort({ job: byId(id), force });
      ended.push(id);
    }
    const [old, stale, young] = ended.map((id) => present(id));
    const jobs = join(site.stateFolder, 'jobs');
    await site.restart('SIGTERM', machine.disk.domain, async () => {
      for (const id of [only, old, stale]) await age(join(jobs, `${id}.jsonl`), 3);
    });
    await site.service.domainUp(other.disk.domain);
    expect(await refused(site.service.abort(onOther))).toMatchObject({ reason: 'DISK_HAS_NO_JOB' });
    expect(await refused(site.service.getInfo(present(old)))).toMatchObject({ reason: 'JOB_NOT_FOUND' });
    expect((await site.service.listJobs()).jobs.map(({ id }) => id)).toEqual([young, stale]);
    expect((await readdir(jobs)).toSorted()).toEqual([young, stale].map((id) => `${id}.jsonl`).toSorted());
    expect(await site.service.listLeftovers()).toMatchObject([{ jobId: stale }]);
    // Its request id is free again; the others' are not.
    expect(await refused(site.service.startCopy({ ...copyOf(machine, 'x'), requestId: 'new' }))).toMatchObject({
      reason: 'REQUEST_ID_REUSED',
    });
    expect((await site.service.startCopy({ ...copyOf(machine, 'x'), requestId: 'old' })).id).not.toBe(old);
  });

  test('has no more jobs with possible leftovers than its limit, and says where the leftovers of the others are', async () => {
    await using site = await Site.open([], ['--keep-leftovers', '1']);
    await using machine = await site.machine();
    const ended: string[] = [];
    for (const name of ['first', 'second']) {
      const { id } = await site.service.startCopy(copyOf(machine, name));
      await site.service.until(id, 'STATE_READY');
      await site.service.abort({ job: byId(id), force: true });
      ended.push(id);
    }
    const [first, second] = [present(ended[0]), present(ended[1])];
    const jobs = join(site.stateFolder, 'jobs');
    await site.restart('SIGTERM', machine.disk.domain, async () => {
      await age(join(jobs, `${first}.jsonl`), 3);
    });
    expect(await refused(site.service.getInfo(first))).toMatchObject({ reason: 'JOB_NOT_FOUND' });
    expect(await site.service.listLeftovers()).toMatchObject([{ jobId: second }]);
    expect((await readdir(jobs)).toSorted()).toEqual([`${first}.leftover`, `${second}.jsonl`].toSorted());
    expect(await readdir(machine.dir)).toEqual(expect.arrayContaining(['first', 'second']));
    expect(site.service.log).toContain(join(machine.dir, 'first'));
  });
});

/** Makes a journal this many days older. */
async function age(path: string, days: number): Promise<void> {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
  const entries = lines.map((line) => JSON.parse(line.slice(9)) as JournalEntry);
  const older = (entry: JournalEntry): JournalEntry => {
    const { clock } = entry;
    return { ...entry, ...(clock && { clock: { ...clock, ms: clock.ms - days * 86_400_000 } }) };
  };
  await writeFile(path, entries.map((entry) => encodeLine(older(entry))).join(''));
}
