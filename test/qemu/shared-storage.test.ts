/**
 * Storage that other hosts may have, too: they are not asked, and each answer that calls such a file safe to delete
 * says so.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag, CommitRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { ImageFormat } from '../../generated/blockjob/v1/job.ts';
import { monitorIn, present } from '../support/checks.ts';
import { FuseFile } from '../support/images/fuse-file.ts';
import { LoopDevice } from '../support/images/loop-device.ts';
import { needs } from '../support/means.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { run, startQemu } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';

const { IMAGE_FORMAT_RAW: RAW } = ImageFormat;
const NOT_ASKED = 'other hosts may have it open, and were not asked';

let site: Site;

beforeAll(async () => {
  site = await Site.open(['/dev']);
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
});

async function ready({ disk }: Machine, kind: 'file' | 'blockDevice', path: string, reuseExternal: boolean) {
  const destination = { target: { $case: kind, value: path }, format: RAW } as const;
  const { id } = await site.service.startCopy({ disk, destination, reuseExternal });
  await site.service.until(id, 'STATE_READY');
  return byId(id);
}

/** The files of a former disk that may be deleted. */
async function leftBehind(machine: Machine, kind: 'file' | 'blockDevice', path: string) {
  await site.service.abort({ job: await ready(machine, kind, path, true), pivot: true });
  const back = await ready(machine, 'file', join(machine.dir, 'back'), false);
  const ended = await site.service.abort({ job: back, pivot: true });
  const again = await site.service.getInfo(ended.id);
  expect(again.outcome?.safeToDelete).toEqual(ended.outcome?.safeToDelete);
  return present(ended.outcome?.safeToDelete[0]);
}

test('a file that only this host has is named as before', async () => {
  await using machine = await site.machine({ formats: ['raw'] });
  const job = await ready(machine, 'file', join(machine.dir, 'copy'), false);
  const [left] = present((await site.service.abort({ job, pivot: true })).outcome).safeToDelete;
  expect(left).toMatchObject({ path: machine.top.path, sharedStorage: '' });
  expect(left?.warning).not.toContain('other hosts');
});

test.skipIf(needs('loop'))('a device is named with a warning', async () => {
  await using machine = await site.machine({ formats: ['raw'] });
  using device = await LoopDevice.make(machine.dir, 4 * MIB);
  const left = await leftBehind(machine, 'blockDevice', device.path);
  expect(left).toMatchObject({ path: device.path, sharedStorage: 'a block device' });
  expect(left.warning).toContain(`it is on a block device: ${NOT_ASKED}`);
});

describe.skipIf(needs('fuse'))('on FUSE', () => {
  test('an image is named with a warning, by the outcome', async () => {
    await using machine = await site.machine({ formats: ['raw'] });
    const behind = join(machine.dir, 'behind');
    await run('qemu-img', ['create', '-q', '-f', 'raw', behind, String(4 * MIB)]);
    await using file = await FuseFile.over(behind, join(machine.dir, 'fuse'));
    const left = await leftBehind(machine, 'file', file.path);
    expect(left).toMatchObject({ path: file.path, sharedStorage: 'fuse' });
    expect(left.warning).toContain(`it is on fuse: ${NOT_ASKED}`);
  });

  test('an image that a commit deletes is named by its plan', async () => {
    await using machine = await site.machine({ formats: ['qcow2'] });
    const [behind, top] = [join(machine.dir, 'behind'), join(machine.dir, 'top')];
    const base = join(machine.dir, 'base');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, String(MIB)]);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', behind]);
    await using file = await FuseFile.over(behind, join(machine.dir, 'fuse'));
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', file.path, '-F', 'qcow2', top]);
    const name = 'on-fuse';
    const chain = [base, file.path, top].map((path) => ({ path, format: 'qcow2' }) as const);
    await using _qemu = await startQemu({
      style: 'blockdev',
      name,
      disks: [{ id: 'disk0', bus: 'virtio-blk', chain }],
      extraArgs: monitorIn(site.sockets, name),
    });
    await site.service.domainUp(name);
    const commit = { disk: { domain: name, disk: 'disk0' }, top: file.path, base };
    const planOf = async (flags: readonly CommitFlag[]) =>
      (await site.service.planOf('commit', CommitRequest.fromPartial({ ...commit, flags: [...flags] }))).notes;
    expect(await planOf([])).toEqual([]);
    expect(await planOf([CommitFlag.COMMIT_FLAG_DELETE])).toEqual([
      `deletes ${file.path}; it is on fuse: ${NOT_ASKED}`,
    ]);
  });
});
