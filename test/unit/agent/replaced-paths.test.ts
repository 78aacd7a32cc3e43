/**
 * Somebody who may write below an allowed folder replaces a folder by a link between two looks of the service. A file
 * is then made, written, emptied or deleted in the intended folder, or nowhere.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat, mkdir, open, readdir, readFile, rename, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createFile, deleteImage, knownAs, removeFile } from '../../../src/agent/files/files.ts';
import { checkAllowed, lookAt, mustBeWithin, readHeader } from '../../../src/agent/files/place.ts';
import { proveFile } from '../../../src/agent/files/prove-file.ts';
import { openFilesOf } from '../../../src/agent/host/open-files.ts';
import type { KnownFile } from '../../../src/core/job/step.ts';
import { qcow2 } from '../../support/images/qcow2-header.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';

const REPLACED = { reason: 'PATH_REPLACED' };

/** `path` is below the allowed folder; `swap` leads its folder's name to `outside`, and `swapBack` undoes that. */
async function world() {
  await using held = new AsyncDisposableStack();
  const dir = held.use(await testDir());
  const [allowed, outside] = [join(dir.path, 'allowed'), join(dir.path, 'outside')];
  const folder = join(allowed, 'of-a-tenant');
  for (const one of [allowed, outside, folder]) await mkdir(one);
  const moved = held.move();
  return {
    allowed,
    outside,
    folder,
    path: join(folder, 'x'),
    swap: async () => {
      await rename(folder, `${folder}~`);
      await symlink(outside, folder);
    },
    swapBack: async () => {
      await unlink(folder);
      await rename(`${folder}~`, folder);
    },
    [Symbol.asyncDispose]: async () => await moved.disposeAsync(),
  };
}

function making(path: string, takeOver = false) {
  return { do: 'create-file', path, takeOver, sizeBytes: 4096, owner: undefined } as const;
}

async function known(path: string): Promise<KnownFile> {
  return knownAs(path, await lstat(path, { bigint: true }));
}

/** A stand-in for a QEMU that has opened this name: another process, which shows only what /proc does. */
async function opening(path: string, flags: 'r' | 'r+') {
  await using handle = await open(path, flags);
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore', handle.fd] });
  const exited = once(child, 'exit');
  return {
    name: 'vm',
    openFiles: () => openFilesOf(child.pid ?? 0),
    graph: () => Promise.reject(new Error('not asked')),
    [Symbol.asyncDispose]: async () => {
      child.stdin?.end();
      await exited;
    },
  };
}

const nobody = async () => await Promise.resolve(undefined);

describe('a folder that has become a link since it was checked', () => {
  it('is not allowed by its name, if the folder behind the link is not', async () => {
    await using here = await world();
    const allowed = { folders: [here.allowed], nbdServers: [] };
    await checkAllowed(here.path, allowed);
    await here.swap();
    const place = await lookAt(here.path);
    await expect(mustBeWithin(place, allowed, here.path)).rejects.toMatchObject({ reason: 'DESTINATION_NOT_ALLOWED' });
  });

  it.each([false, true])('gets no new file in the folder behind the link, taken over: %s', async (takeOver) => {
    await using here = await world();
    const { path } = await lookAt(here.path);
    const names = takeOver ? ['x'] : [];
    for (const one of [here.folder, here.outside]) for (const name of names) await writeFile(join(one, name), '');
    await here.swap();
    await expect(createFile(making(path, takeOver))).rejects.toMatchObject(REPLACED);
    const left = await Promise.all(names.map(async (name) => (await lstat(join(here.outside, name))).size));
    expect([await readdir(here.outside), left]).toEqual([names, names.map(() => 0)]);
  });

  it('is not written to through QEMU’s open file, and the new file is removed from its present folder', async () => {
    await using here = await world();
    const { made, folder } = await createFile(making(here.path));
    await using _held = folder;
    await here.swap();
    await writeFile(join(here.outside, 'x'), 'of the host');
    await using qemu = await opening(here.path, 'r+');
    const action = { do: 'prove-file', node: 'n', path: here.path, isNew: true } as const;
    await expect(proveFile(action, qemu, made)).rejects.toMatchObject(REPLACED);
    await here.swapBack();
    // The name is right again, and QEMU still has its open file.
    await expect(proveFile(action, qemu, made)).rejects.toMatchObject({ reason: 'PATH_DIFFERS_IN_QEMU' });
    await here.swap();
    await removeFile(made, folder);
    expect(await readdir(`${here.folder}~`)).toEqual([]);
    expect(await readFile(join(here.outside, 'x'), 'utf8')).toBe('of the host');
  });

  it('is proved if QEMU has opened the file that was made', async () => {
    await using here = await world();
    const { made, folder } = await createFile(making(here.path));
    await using _held = folder;
    await using qemu = await opening(here.path, 'r+');
    const action = { do: 'prove-file', node: 'n', path: here.path, isNew: true } as const;
    expect(await proveFile(action, qemu, made)).toEqual(await known(here.path));
  });

  it('proves nothing about an image that was checked, if another one is read', async () => {
    await using here = await world();
    await writeFile(here.path, qcow2());
    const { path, file } = await lookAt(here.path);
    await here.swap();
    await writeFile(join(here.outside, 'x'), qcow2());
    await expect(readHeader(path, file)).rejects.toMatchObject(REPLACED);
    await using qemu = await opening(path, 'r');
    const action = { do: 'prove-file', node: 'n', path, isNew: false } as const;
    await expect(proveFile(action, qemu, file)).rejects.toMatchObject(REPLACED);
  });

  it('loses nothing in the folder behind the link: no file of that name is deleted, removed or emptied', async () => {
    await using here = await world();
    await writeFile(here.path, 'an image');
    const image = await known(here.path);
    // The question comes right before the deletion.
    const swapping = async () => {
      await here.swap();
      await writeFile(join(here.outside, 'x'), 'of the host');
      return undefined;
    };
    let asked = 0;
    await deleteImage({ image }, async () => await (asked++ === 0 ? swapping() : nobody()));
    expect(await readFile(join(here.outside, 'x'), 'utf8')).toBe('of the host');
    expect(await readdir(`${here.folder}~`)).toEqual([]);
    for (const created of [true, false]) await removeFile({ ...image, created });
    expect(await readFile(join(here.outside, 'x'), 'utf8')).toBe('of the host');
  });
});

describe('a file that has become a link since it was checked', () => {
  it('is not taken over, emptied or proved', async () => {
    await using here = await world();
    await writeFile(here.path, '');
    const file = await known(here.path);
    await unlink(here.path);
    await writeFile(join(here.outside, 'x'), '');
    await symlink(join(here.outside, 'x'), here.path);
    await expect(createFile(making(here.path, true))).rejects.toMatchObject({ code: 'ELOOP' });
    await using qemu = await opening(here.path, 'r+');
    const action = { do: 'prove-file', node: 'n', path: here.path, isNew: false } as const;
    for (const meant of [file, undefined]) await expect(proveFile(action, qemu, meant)).rejects.toMatchObject(REPLACED);
    await writeFile(join(here.outside, 'x'), 'of the host');
    await removeFile({ ...file, created: false });
    expect(await readFile(join(here.outside, 'x'), 'utf8')).toBe('of the host');
  });
});

describe('existing links', () => {
  it('are followed, also into an allowed folder that is a link itself', async () => {
    await using here = await world();
    await symlink(here.allowed, join(here.outside, 'pool'));
    await symlink('of-a-tenant', join(here.allowed, 'alias'));
    for (const folder of [here.allowed, join(here.outside, 'pool')]) {
      const asked = join(folder, 'alias', 'x');
      const place = await lookAt(asked);
      expect(place.path).toBe(here.path);
      await mustBeWithin(place, { folders: [folder], nbdServers: [] }, asked);
      const { made, folder: held } = await createFile(making(place.path));
      await removeFile(made, held);
      await held[Symbol.asyncDispose]();
    }
    expect(await readdir(here.folder)).toEqual([]);
  });
});
