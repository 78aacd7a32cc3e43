/** The files that jobs make, take over, remove and delete: always exactly the intended file. */
import { link, lstat, mkdir, open, readFile, rename, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  createFile,
  deleteImage,
  fileKey,
  isFoundAs,
  isStill,
  isThere,
  knownAs,
  removeFile,
} from '../../../../src/agent/files/files.ts';
import { holderAmong } from '../../../../src/agent/qemu/graphs.ts';
import type { FileOwner, KnownFile, MadeFile } from '../../../../src/core/job/step.ts';
import { anImage } from '../../../support/images/image.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

const AS_ROOT = process.getuid?.() === 0;

async function makingIt(action: Parameters<typeof createFile>[0]): Promise<MadeFile> {
  const { made: file, folder } = await createFile(action);
  await folder[Symbol.asyncDispose]();
  return file;
}

/** A new file, or an existing one with zero length. */
async function making(path: string, sizeBytes: number, owner?: FileOwner, takeOver = false): Promise<MadeFile> {
  return await makingIt({ do: 'create-file', path, takeOver, sizeBytes, owner });
}

describe('a file that cannot be read', () => {
  it('is not taken for one that is gone', async () => {
    await using dir = await testDir();
    // A link that leads to itself: ELOOP on the way, for every caller.
    await symlink('loop', join(dir.path, 'loop'));
    const path = join(dir.path, 'loop', 'x');
    const image = { path, device: '1', inode: '2', birthTimeNs: '3' };
    await expect(isStill(image)).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(isThere(path)).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(deleteImage({ image }, async () => undefined)).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(removeFile({ ...image, created: true })).rejects.toMatchObject({ code: 'ELOOP' });
    expect(await isThere(join(dir.path, 'nothing'))).toBe(false);
  });
});

describe('a file that was known before a boot', () => {
  it('is recognized though its disk has another number, and not with another time of birth', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    await writeFile(path, '');
    const before = knownAs(path, await stat(path, { bigint: true }));
    expect(await isStill({ ...before, device: '1' })).toBe(true);
    expect(await isStill({ ...before, birthTimeNs: '1' })).toBe(false);
    expect(await isStill({ ...before, inode: '1' })).toBe(false);
  });

  it('is not recognized by its inode alone, if the file system keeps no time of birth', async () => {
    const path = '/proc/self/status';
    const before = knownAs(path, await stat(path, { bigint: true }));
    expect(before.birthTimeNs).toBe('0');
    expect(await isStill(before)).toBe(true);
    expect(await isStill({ ...before, device: '1' })).toBe(false);
  });
});

describe('a file that is found by its name', () => {
  it('is the same on a file system that gets a new number at each mount, and keeps no time of birth', async () => {
    const path = '/proc/self/status';
    const before = knownAs(path, await stat(path, { bigint: true }));
    // As stat tells it: major 0 and another minor.
    expect(await isFoundAs({ ...before, device: '41' })).toBe(true);
    expect(await isFoundAs({ ...before, device: '41', inode: '1' })).toBe(false);
    expect(await isFoundAs({ ...before, device: String(0x800) })).toBe(false);
  });
});

describe('making the file', () => {
  it('gives it its size and its owner, and hides it from others', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    const ours = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    const owner = AS_ROOT ? { uid: 107, gid: 108 } : undefined;
    const made = await making(path, 12_345, owner);
    const { dev, ino, size, mode, uid, gid, blocks } = await stat(path);
    const birthTimeNs = String((await stat(path, { bigint: true })).birthtimeNs);
    expect(made).toEqual({ path, created: true, device: String(dev), inode: String(ino), birthTimeNs });
    expect({ size, blocks, mode: mode & 0o777 }).toEqual({ size: 12_345, blocks: 0, mode: 0o600 });
    expect({ uid, gid }).toEqual(owner ?? ours);
  });

  it('gives it the requested mode, whatever the umask is', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    const before = process.umask(0o077);
    try {
      await makingIt({ do: 'create-file', path, takeOver: false, sizeBytes: 0, owner: undefined, mode: 0o664 });
    } finally {
      process.umask(before);
    }
    expect((await stat(path)).mode & 0o777).toBe(0o664);
  });

  it('takes over a file of zero length, and says that it did not make it', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    await writeFile(path, '', { mode: 0o640 });
    const { ino } = await stat(path);
    expect(await making(path, 4096, { uid: 107, gid: 108 }, true)).toMatchObject({
      created: false,
      inode: String(ino),
    });
    const { size, mode, uid } = await stat(path);
    expect({ size, mode: mode & 0o777, uid }).toEqual({ size: 4096, mode: 0o640, uid: process.getuid?.() });
  });

  it('leaves an existing file alone, whatever it is', async () => {
    await using dir = await testDir();
    const at = (name: string) => join(dir.path, name);
    await writeFile(at('file'), 'precious');
    await writeFile(at('empty'), '');
    await symlink(at('empty'), at('link'));
    await symlink(at('nothing'), at('dangling'));
    await mkdir(at('folder'));
    for (const name of ['file', 'empty', 'link', 'dangling', 'folder'])
      await expect(making(at(name), 4096)).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(making(at('file'), 0, undefined, true)).rejects.toThrow('DESTINATION_EXISTS');
    await expect(making(at('link'), 4096, undefined, true)).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(making(at('dangling'), 4096, undefined, true)).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(making(at('folder'), 0, undefined, true)).rejects.toMatchObject({ code: 'EISDIR' });
    await expect(making(at('gone'), 0, undefined, true)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await readFile(at('file'), 'utf8')).toBe('precious');
    expect((await stat(at('empty'))).size).toBe(0);
    await expect(lstat(at('nothing'))).rejects.toThrow('ENOENT');
    await expect(making(join(dir.path, 'missing', 'x'), 0)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('makes it for one of twenty that want it at once', async () => {
    await using dir = await testDir();
    for (const sizeBytes of [0, 4096]) {
      const path = join(dir.path, `x${sizeBytes}`);
      const race = await Promise.allSettled(
        Array.from({ length: 20 }, async () => await making(path, sizeBytes, undefined)),
      );
      expect(race.filter((one) => one.status === 'fulfilled' && one.value.created)).toHaveLength(1);
      expect((await stat(path)).size).toBe(sizeBytes);
    }
  });

  // A file that another job has just made is of zero length too, and must not be taken for an empty file of the caller.
  it('gives it to none of the other nineteen', async () => {
    await using dir = await testDir();
    const race = await Promise.allSettled(
      Array.from({ length: 20 }, async () => await making(join(dir.path, 'x'), 0, undefined)),
    );
    expect(race.filter((one) => one.status === 'fulfilled')).toHaveLength(1);
  });

  it('leaves no file behind when it fails', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    // More than any file system could take: some take the largest possible number.
    await expect(making(path, 2 ** 63, undefined)).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    await expect(lstat(path)).rejects.toThrow('ENOENT');
  });
});

describe('removing the file', () => {
  it('removes one that it made, also repeatedly', async () => {
    await using dir = await testDir();
    const made = await making(join(dir.path, 'x'), 4096, undefined);
    await removeFile(made);
    await expect(lstat(made.path)).rejects.toThrow('ENOENT');
    await removeFile(made);
  });

  it('empties one that we took over, which was empty', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    await writeFile(path, '');
    const made = await making(path, 4096, undefined, true);
    await removeFile(made);
    expect((await stat(path)).size).toBe(0);
  });

  it.each([true, false])('leaves a file alone that has taken its place (made by us: %s)', async (created) => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    if (!created) await writeFile(path, '');
    const made = await making(path, 4096, undefined, !created);
    expect(made.created).toBe(created);
    // So that no other file gets its inode.
    await link(path, join(dir.path, 'kept'));
    await writeFile(join(dir.path, 'other'), 'precious');
    await rename(join(dir.path, 'other'), path);
    await removeFile(made);
    expect(await readFile(path, 'utf8')).toBe('precious');

    await unlink(path);
    await writeFile(join(dir.path, 'target'), 'precious');
    await symlink(join(dir.path, 'target'), path);
    await removeFile(made);
    expect(await readFile(path, 'utf8')).toBe('precious');

    await rm(path);
    await mkdir(path);
    await removeFile(made);
    expect((await lstat(path)).isDirectory()).toBe(true);
  });

  // An inode's number is free for the next file when its own is gone.
  it('leaves a file of another program alone that was given the same inode', async ({ skip }) => {
    await using dir = await testDir();
    const made = await making(join(dir.path, 'x'), 0, undefined);
    await unlink(made.path);
    let reused = false;
    for (let tries = 0; tries < 200 && !reused; tries += 1) {
      await writeFile(made.path, 'precious');
      reused = String((await stat(made.path)).ino) === made.inode;
      if (!reused) await rename(made.path, join(dir.path, String(tries)));
    }
    skip(!reused, 'this file system gives each file a new inode');
    await removeFile(made);
    expect(await readFile(made.path, 'utf8')).toBe('precious');
  });

  it('does not follow a file that was moved, and does not touch one on another file system', async () => {
    await using dir = await testDir();
    const made = await making(join(dir.path, 'x'), 4096, undefined);
    const elsewhere: MadeFile = { ...made, device: `${made.device}1`, birthTimeNs: `${made.birthTimeNs}1` };
    await removeFile(elsewhere);
    expect((await stat(made.path)).size).toBe(4096);
    await rename(made.path, join(dir.path, 'moved'));
    await removeFile(made);
    expect((await stat(join(dir.path, 'moved'))).size).toBe(4096);
  });

  it('recognizes its own file by its name in the journal, after QEMU opened and wrote it', async () => {
    await using dir = await testDir();
    const made = await making(join(dir.path, 'x'), 0, undefined);
    await using handle = await open(made.path, 'r+');
    await handle.write('a header and more');
    const again: MadeFile = JSON.parse(JSON.stringify(made));
    await removeFile(again);
    await expect(lstat(join(dir.path, basename(made.path)))).rejects.toThrow('ENOENT');
  });
});

async function known(path: string): Promise<KnownFile> {
  await writeFile(path, 'an image');
  return knownAs(path, await lstat(path, { bigint: true }));
}

/** One VM has these open. */
function holderIn(...paths: readonly string[]) {
  const nodes = paths.map((path, at) => [`n${at}`, anImage({ node: `n${at}`, path })] as const);
  const graph = { disks: [], nodes: new Map(nodes), children: new Map(), jobNodes: new Map() };
  return async (path: string) => await holderAmong([{ domain: 'vm', socketPath: '/q', graph, opens: undefined }])(path);
}

describe('deleting an image that a commit has emptied', () => {
  it('deletes exactly that file, also repeatedly', async () => {
    await using dir = await testDir();
    const image = await known(join(dir.path, 'x'));
    await deleteImage({ image }, holderIn(join(dir.path, 'other'), 'nbd://host/x'));
    await expect(lstat(image.path)).rejects.toThrow('ENOENT');
    await deleteImage({ image }, holderIn());
  });

  it('leaves a file alone that a VM has open, by whatever name', async () => {
    await using dir = await testDir();
    const image = await known(join(dir.path, 'x'));
    await link(image.path, join(dir.path, 'hard'));
    await symlink(image.path, join(dir.path, 'soft'));
    for (const name of ['x', 'hard', 'soft']) {
      await expect(deleteImage({ image }, holderIn(join(dir.path, name)))).rejects.toMatchObject({
        reason: 'DESTINATION_IN_USE',
      });
    }
    expect(await readFile(image.path, 'utf8')).toBe('an image');
  });

  it('leaves a file alone that has taken its place', async () => {
    await using dir = await testDir();
    const image = await known(join(dir.path, 'x'));
    await rename(image.path, join(dir.path, 'moved'));
    await writeFile(image.path, 'precious');
    await deleteImage({ image }, holderIn());
    expect(await readFile(image.path, 'utf8')).toBe('precious');
    await rm(image.path);
    await symlink(join(dir.path, 'moved'), image.path);
    await deleteImage({ image }, holderIn());
    expect(await readFile(join(dir.path, 'moved'), 'utf8')).toBe('an image');
  });

  it('each name of a file is the same key, and of no other', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    await writeFile(path, '');
    await writeFile(join(dir.path, 'y'), '');
    await link(path, join(dir.path, 'hard'));
    await symlink(path, join(dir.path, 'soft'));
    const key = await fileKey(path);
    expect(await Promise.all(['hard', 'soft'].map(async (name) => await fileKey(join(dir.path, name))))).toEqual([
      key,
      key,
    ]);
    expect(await fileKey(join(dir.path, 'y'))).not.toBe(key);
    expect(await fileKey(join(dir.path, 'gone'))).toBe(join(dir.path, 'gone'));
    expect(await fileKey('nbd://host/x')).toBe('nbd://host/x');
  });
});
