/** Finds the file of a chain that QEMU has: by /proc, and without it by QEMU's own words. */
import { mkdir, open, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { knownFiles } from '../../../../src/agent/files/known-file.ts';
import { openFilesOf } from '../../../../src/agent/host/open-files.ts';
import { anImage } from '../../../support/images/image.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

/** A QEMU that reports this about the node `image`. */
function machine(allocatedBytes: number, opens: ReturnType<typeof openFilesOf>) {
  const nodes = new Map([['image', anImage({ path: '', node: 'image', allocatedBytes })]]);
  const graph = { disks: [], nodes, children: new Map(), jobNodes: new Map() };
  return { openFiles: () => opens, graph: async () => await Promise.resolve(graph) };
}

const UNSEEN = undefined;
const BYTES = 64 * 1024;

it('is the file that its process has open', async () => {
  await using dir = await testDir();
  const path = join(dir.path, 'image');
  await writeFile(path, '');
  await symlink(path, join(dir.path, 'link'));
  const images = [path, join(dir.path, 'link')].map((one) => anImage({ node: 'image', path: one }));
  await using _file = await open(path);
  const known = await knownFiles(images, machine(0, openFilesOf(process.pid)));
  expect(known).toMatchObject([{ path }, { path }]);
  await rename(path, join(dir.path, 'moved'));
  await writeFile(path, '');
  expect(await knownFiles(images, machine(0, openFilesOf(process.pid)))).toEqual(['NOT_PROVED', 'NOT_PROVED']);
});

it('is, if nobody can look, the file that matches QEMU’s answers', async () => {
  await using dir = await testDir();
  const path = join(dir.path, 'image');
  await writeFile(path, Buffer.alloc(BYTES, 7));
  // Some file systems allocate space only when the data goes to disk.
  await using file = await open(path);
  await file.sync();
  const { blocks } = await file.stat();
  const image = anImage({ node: 'image', path });
  expect(await knownFiles([image], machine(blocks * 512, UNSEEN))).toMatchObject([{ path }]);
  expect(await knownFiles([image], machine(blocks * 512 + 512, UNSEEN))).toEqual(['NOT_PROVED']);
  expect(await knownFiles([{ ...image, node: 'gone' }], machine(blocks * 512, UNSEEN))).toEqual(['NOT_PROVED']);
});

it('is undefined if this host has no such file', async () => {
  await using dir = await testDir();
  await mkdir(join(dir.path, 'folder'));
  const images = [join(dir.path, 'gone'), join(dir.path, 'folder'), 'nbd://host/x', '/dev/null', '/dev/fdset/7'];
  const none = images.map(() => 'NONE');
  const asked = images.map((path) => anImage({ path }));
  expect(await knownFiles(asked, machine(0, UNSEEN))).toEqual(none);
});
