/** Objects that jobs could not remove are listed, and are removed only if nobody uses them. */
import { existsSync } from 'node:fs';
import { rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Leftover_Kind } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually, graphOf } from '../support/checks.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { whileStopped } from '../support/real-qemu/while-stopped.ts';
import { byId } from '../support/service/caller.ts';

const { KIND_FILE, KIND_NODE, KIND_QEMU_JOB } = Leftover_Kind;

let site: Site;

function copyOf({ disk, dir }: Machine) {
  const target = { $case: 'file', value: join(dir, 'copy') } as const;
  return { disk, destination: { target }, bandwidthBytesPerSecond: 65_536n };
}

describe('leftovers', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test('jobs that end as requested have none', async () => {
    await using machine = await site.machine();
    const job = await site.service.startCopy({ ...copyOf(machine), bandwidthBytesPerSecond: 0n });
    expect(await site.service.listLeftovers()).toEqual([]);
    await site.service.until(job.id, 'STATE_READY');
    await site.service.abort({ job: byId(job.id), pivot: true });
    expect(await site.service.listLeftovers()).toEqual([]);
    // Its nodes belong to the guest now.
    const ids = [`file:${job.id}`, `node:${job.id}`, `node:${job.id}-file`, `job:${job.id}`];
    const results = await site.service.reclaim(ids, true);
    expect(results.map(({ reclaimed, leftover }) => [leftover?.id, leftover?.name, reclaimed])).toEqual(
      ids.map((id) => [id, '', true]),
    );
    expect(existsSync(join(machine.dir, 'copy'))).toBe(true);
    expect((await site.service.getDomain(machine.disk.domain)).disks[0]?.nodeName).toBe(job.id);
  });

  test('in a QEMU that does not answer still exist', async () => {
    await using machine = await site.machine();
    const { admin, pid } = machine.qemu;
    const gone = await site.service.startCopy(copyOf(machine));
    await site.service.abort({ job: byId(gone.id) });
    const node = `${gone.id.slice(0, 8)}0123456789`;
    await admin.execute('blockdev-add', { driver: 'null-co', 'node-name': node, size: 512 });
    const listed = async () => (await site.service.listLeftovers(machine.disk.domain)).map(({ name }) => name);
    expect(await listed()).toEqual([node]);
    await whileStopped(pid, async () => {
      expect(await listed()).toEqual([]);
      const [result] = await site.service.reclaim(['node:bj0123456789abcdef'], true);
      expect(result).toMatchObject({
        reclaimed: false,
        error: { message: expect.stringContaining('cannot') as string },
      });
    });
    expect(await listed()).toEqual([node]);
    const results = await site.service.reclaim(['node:bj0123456789abcdef', `node:${node}`], true);
    expect(results.map(({ reclaimed, error }) => [reclaimed, error])).toEqual([
      [true, undefined],
      [true, undefined],
    ]);
    expect(await listed()).toEqual([]);
  });

  test('the file of a copy by force after READY: listed, and removed on request', async () => {
    await using machine = await site.machine();
    const path = join(machine.dir, 'copy');
    const job = await site.service.startCopy({ ...copyOf(machine), bandwidthBytesPerSecond: 0n });
    await site.service.until(job.id, 'STATE_READY');
    const ended = await site.service.abort({ job: byId(job.id), force: true });
    expect(ended.outcome).toMatchObject({ destinationContent: DestinationContent.DESTINATION_CONTENT_STALE });
    const expected = {
      id: `file:${job.id}`,
      kind: KIND_FILE,
      host: 'host-under-test',
      domain: machine.disk.domain,
      jobId: job.id,
      name: path,
      blockedBy: '',
    };
    const [leftover, ...more] = await site.service.listLeftovers(machine.disk.domain);
    expect(leftover).toMatchObject(expected);
    expect(leftover?.allocatedBytes).toBe(BigInt((await stat(path)).blocks * 512));
    expect(leftover?.createTime).toEqual(job.createTime);
    expect(more).toEqual([]);
    expect(await site.service.listLeftovers('nobody')).toEqual([]);
    expect(await site.service.reclaim([expected.id], false)).toMatchObject([{ reclaimed: true, leftover: expected }]);
    expect(existsSync(path)).toBe(true);
    expect(await site.service.reclaim([expected.id], true)).toMatchObject([{ reclaimed: true }]);
    expect(existsSync(path)).toBe(false);
    await writeFile(path, 'of somebody else');
    expect(await site.service.listLeftovers()).toEqual([]);
    expect(await site.service.reclaim([expected.id], true)).toMatchObject([
      { reclaimed: true, leftover: { name: '' } },
    ]);
    expect(existsSync(path)).toBe(true);
  });

  test('a file that a VM has open since then is not removed, and not safe to delete', async () => {
    await using machine = await site.machine();
    await using other = await site.machine({ formats: ['qcow2'], pattern: false });
    const path = join(machine.dir, 'copy');
    const job = await site.service.startCopy({ ...copyOf(machine), bandwidthBytesPerSecond: 0n });
    await site.service.until(job.id, 'STATE_READY');
    const ended = await site.service.abort({ job: byId(job.id), force: true });
    expect(ended.outcome?.safeToDelete).toMatchObject([{ path }]);
    await other.qemu.admin.execute('blockdev-add', { driver: 'file', 'node-name': 'user', filename: path });
    expect((await site.service.getInfo(job.id)).outcome?.safeToDelete).toEqual([]);
    const [leftover] = await site.service.listLeftovers();
    expect(leftover).toMatchObject({ blockedBy: `node user of domain ${other.disk.domain}` });
    const [result] = await site.service.reclaim([`file:${job.id}`], true);
    expect(result).toMatchObject({ reclaimed: false, error: { message: expect.stringContaining('user') as string } });
    expect(existsSync(path)).toBe(true);
    await other.qemu.admin.execute('blockdev-del', { 'node-name': 'user' });
    expect((await site.service.getInfo(job.id)).outcome?.safeToDelete).toMatchObject([{ path }]);
    expect(await site.service.reclaim([`file:${job.id}`], true)).toMatchObject([{ reclaimed: true }]);
  });

  test('the copy of a QEMU that died is not removed: the guest may have moved to it', async () => {
    await using machine = await site.machine();
    const job = await site.service.startCopy(copyOf(machine));
    process.kill(machine.qemu.pid, 'SIGKILL');
    await machine.qemu.exited;
    const ended = await site.ended(job);
    expect(ended).toMatchObject({
      state: Job_State.STATE_FAILED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_UNKNOWN, safeToDelete: [] },
    });
    const [leftover] = await site.service.listLeftovers(machine.disk.domain);
    expect(leftover?.blockedBy).toContain('read the outcome');
    expect(await site.service.reclaim([`file:${job.id}`], true)).toMatchObject([{ reclaimed: false }]);
    expect(existsSync(join(machine.dir, 'copy'))).toBe(true);

    const { domain } = machine.disk;
    await rm(join(site.sockets, `${domain}.sock`));
    await eventually('the domain is gone', async () => {
      const domains = await site.service.listDomains();
      return domains.every(({ name }) => name !== domain) || undefined;
    });
    for (const asked of [domain, ''])
      expect(await site.service.listLeftovers(asked)).toMatchObject([{ jobId: job.id }]);
  });

  test('nodes and jobs that an earlier service made, and that no journal knows', async () => {
    await using machine = await site.machine();
    const { admin } = machine.qemu;
    const other = await site.service.startCopy(copyOf(machine));
    await site.service.abort({ job: byId(other.id) });
    // A job of this folder.
    const job = `${other.id.slice(0, 8)}2233445566`;
    const path = join(machine.dir, 'file');
    await writeFile(path, Buffer.alloc(1 << 20));
    await admin.execute('blockdev-add', { driver: 'file', 'node-name': `${job}-file`, filename: path });
    await admin.execute('blockdev-add', { driver: 'raw', 'node-name': job, file: `${job}-file` });
    await admin.execute('blockdev-create', {
      'job-id': `${job}-create`,
      options: { driver: 'qcow2', file: 'x', size: 1 },
    });
    await eventually('the job has concluded', async () =>
      (await graphOf(admin)).jobs.some((one) => one.endsWith('concluded')) ? true : undefined,
    );
    const found = await site.service.listLeftovers(machine.disk.domain);
    expect(found).toMatchObject([
      { id: `job:${job}-create`, kind: KIND_QEMU_JOB, jobId: job, blockedBy: '', createTime: undefined },
      { id: `node:${job}`, kind: KIND_NODE, name: job, jobId: job, blockedBy: '' },
      { id: `node:${job}-file`, kind: KIND_NODE, blockedBy: '' },
    ]);
    // An overlay of another client keeps them both.
    const overlay = { driver: 'throttle', 'node-name': 'theirs', file: job, 'throttle-group': 'g' };
    await admin.execute('object-add', { 'qom-type': 'throttle-group', id: 'g' });
    await admin.execute('blockdev-add', overlay);
    expect((await site.service.listLeftovers(machine.disk.domain))[1]).toMatchObject({
      id: `node:${job}`,
      blockedBy: 'node theirs uses it',
    });
    const ids = found.map(({ id }) => id).toReversed();
    const kept = await site.service.reclaim(ids, true);
    expect(kept.map(({ reclaimed }) => reclaimed)).toEqual([false, false, true]);
    await admin.execute('blockdev-del', { 'node-name': 'theirs' });
    expect((await site.service.reclaim(ids, true)).map(({ reclaimed }) => reclaimed)).toEqual([true, true, true]);
    expect(await site.service.listLeftovers()).not.toContainEqual(expect.objectContaining({ jobId: job }));
    expect((await graphOf(admin)).nodes.filter((node) => node.startsWith('bj'))).toEqual([]);
    expect(existsSync(path)).toBe(true);
  });
});
