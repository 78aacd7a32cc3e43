/** The open files of a process, from /proc. */
import { link, mkdir, open, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { isOpen, openFilesOf, processWith, soughtAt } from '../../../../src/agent/host/open-files.ts';
import { present } from '../../../support/checks.ts';
import { FakeQemu } from '../../../support/fake-qemu/fake-qemu.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

async function isOpenHere(path: string): Promise<boolean> {
  return await isOpen(present(openFilesOf(process.pid)), present(await soughtAt(path)));
}

it('a file is open under every name, and another file at its name is not', async () => {
  await using dir = await testDir();
  const [path, hard, moved] = [join(dir.path, 'x'), join(dir.path, 'hard'), join(dir.path, 'moved')];
  await writeFile(path, '');
  await link(path, hard);
  await using _file = await open(path);
  expect([await isOpenHere(path), await isOpenHere(hard)]).toEqual([true, true]);
  await rename(path, moved);
  await writeFile(path, '');
  expect([await isOpenHere(path), await isOpenHere(moved)]).toEqual([false, true]);
  await unlink(moved);
  expect(await isOpenHere(hard)).toBe(true);
  expect(await soughtAt(moved)).toBeUndefined();
});

it('if the kernel does not count inodes, the files themselves are asked', async () => {
  await using dir = await testDir();
  const [path, other] = [join(dir.path, 'x'), join(dir.path, 'other')];
  for (const one of [path, other]) await writeFile(one, '');
  await using _file = await open(path);
  const { files } = present(openFilesOf(process.pid));
  const older = files.map((file) => ({ ...file, inode: undefined }));
  for (const [one, is] of [
    [path, true],
    [other, false],
  ] as const) {
    expect(await isOpen({ files: older }, present(await soughtAt(one)))).toBe(is);
    expect(await isOpen({ files }, { ...present(await soughtAt(one)), inode: undefined })).toBe(is);
  }
});

it('a file is found with the process that has it, which is not this one', async () => {
  await using dir = await testDir();
  const [path, own] = [join(dir.path, 'x'), join(dir.path, 'own')];
  for (const one of [path, own]) await writeFile(one, '');
  await using _own = await open(own);
  await using _qemu = await FakeQemu.start({
    socketPath: join(dir.path, 'qmp.sock'),
    name: 'vm1',
    disks: [{ id: 'vd0', bus: 'virtio-blk', chain: [{ format: 'qcow2', path }] }],
    sizeBytes: 0,
  });
  expect(await processWith(path)).toMatch(/^pid \d+ \(.+\)$/);
  expect(await processWith(own)).toBeUndefined();
  expect(await processWith(join(dir.path, 'gone'))).toBeUndefined();
  await mkdir(join(dir.path, 'folder'));
  expect(await processWith(join(dir.path, 'folder'))).toBeUndefined();
});
