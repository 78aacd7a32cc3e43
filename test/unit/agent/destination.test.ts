import { execFileSync } from 'node:child_process';
import {
  chmod,
  link,
  lstat,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkNewFile, createFile, removeFile } from '../../../src/agent/destination.ts';
import type { BlockGraph } from '../../../src/core/chain.ts';
import { BlockJobError } from '../../../src/core/errors.ts';
import type { FileOwner, MadeFile } from '../../../src/core/plans/step.ts';
import { testDir } from '../../support/qemu.ts';

/** The real path, or the reason of the refusal and the path that it names. */
async function checked(path: string, allowed: readonly string[], graphs: Parameters<typeof checkNewFile>[2] = []) {
  try {
    return (await checkNewFile(path, allowed, graphs)).path;
  } catch (error) {
    if (!(error instanceof BlockJobError)) throw error;
    return `${error.reason} ${error.failure.metadata['path']}`;
  }
}

/** What only root may do is tested where the tests are root, and skipped loudly elsewhere. */
const AS_ROOT = process.getuid?.() === 0 && canMount();
if (!AS_ROOT) console.warn('NOT TESTED, AS MOUNTS NEED ROOT: read-only and full file systems, device nodes');

function canMount(): boolean {
  try {
    execFileSync('unshare', ['--mount', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

async function mounted(at: string, options: string): Promise<AsyncDisposable> {
  await mkdir(at);
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', at]);
  return {
    [Symbol.asyncDispose]: async () => {
      execFileSync('umount', [at]);
    },
  };
}

/** A graph whose one node has this file open. */
function graphWith(path: string): BlockGraph {
  const image = {
    node: 'n1',
    format: 'file',
    path,
    storage: undefined,
    virtualSizeBytes: 0,
    allocatedBytes: 0,
    clusterSizeBytes: undefined,
    extendedL2: false,
    readOnly: false,
    encrypted: false,
    backingFile: '',
    backingFormat: '',
    bitmaps: [],
  };
  return { disks: [], nodes: new Map([['n1', image]]), children: new Map() };
}

describe('a new destination', () => {
  it('is fine in an allowed folder, and below it', async () => {
    await using dir = await testDir();
    await mkdir(join(dir.path, 'a'));
    for (const path of [join(dir.path, 'x'), join(dir.path, 'a', 'x')])
      expect(await checked(path, ['/nowhere', dir.path])).toBe(path);
    expect(await checked(join(dir.path, 'x'), ['/'])).toBe(join(dir.path, 'x'));
  });

  it('is not made by the check', async () => {
    await using dir = await testDir();
    await checked(join(dir.path, 'x'), [dir.path]);
    await expect(lstat(join(dir.path, 'x'))).rejects.toThrow('ENOENT');
  });

  it('is refused where no folder is allowed, or none that is there', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    for (const allowed of [[], [join(dir.path, 'missing')], ['']])
      expect(await checked(path, allowed)).toBe(`DESTINATION_NOT_ALLOWED ${path}`);
  });

  it('is refused in a folder that only begins like an allowed one, or is above it', async () => {
    await using dir = await testDir();
    const allowed = join(dir.path, 'allowed');
    await mkdir(allowed);
    await mkdir(join(dir.path, 'allowed-evil'));
    for (const path of [join(dir.path, 'allowed-evil', 'x'), join(dir.path, 'x'), allowed])
      expect(await checked(path, [allowed])).toBe(`DESTINATION_NOT_ALLOWED ${path}`);
  });

  it('is where its links lead: out of an allowed folder is refused, into one is made there', async () => {
    await using dir = await testDir();
    const [allowed, outside] = [join(dir.path, 'allowed'), join(dir.path, 'outside')];
    await mkdir(allowed);
    await mkdir(outside);
    await symlink(outside, join(allowed, 'out'));
    await symlink(allowed, join(outside, 'in'));
    expect(await checked(join(allowed, 'out', 'x'), [allowed])).toBe(`DESTINATION_NOT_ALLOWED ${allowed}/out/x`);
    expect(await checked(join(outside, 'in', 'x'), [allowed])).toBe(join(allowed, 'x'));
    expect(await checked(join(outside, 'in', 'x'), [join(outside, 'in')])).toBe(join(allowed, 'x'));
  });

  it('is missing without its folder', async () => {
    await using dir = await testDir();
    const folder = join(dir.path, 'missing');
    expect(await checked(join(folder, 'x'), [dir.path])).toBe(`DESTINATION_MISSING ${folder}`);
    await writeFile(folder, 'a file');
    expect(await checked(join(folder, 'x'), [dir.path])).toBe(`DESTINATION_MISSING ${folder}/x`);
    await symlink(join(dir.path, 'nothing'), join(dir.path, 'dangling'));
    expect(await checked(join(dir.path, 'dangling', 'x'), [dir.path])).toMatch(/^DESTINATION_MISSING /);
  });

  it('does not tell whether a folder exists that is not allowed', async () => {
    await using dir = await testDir();
    const allowed = join(dir.path, 'allowed');
    await mkdir(allowed);
    const path = join(dir.path, 'missing', 'x');
    expect(await checked(path, [allowed])).toBe(`DESTINATION_NOT_ALLOWED ${path}`);
  });

  it('exists if anything with contents is there, or anything but a plain file', async () => {
    await using dir = await testDir();
    const at = (name: string) => join(dir.path, name);
    await writeFile(at('file'), 'x');
    await mkdir(at('folder'));
    await symlink(at('nothing'), at('dangling'));
    await writeFile(at('empty'), '');
    await symlink(at('empty'), at('link-to-empty'));
    execFileSync('mkfifo', [at('fifo')]);
    for (const name of ['file', 'dangling', 'link-to-empty', 'fifo'])
      expect(await checked(at(name), [dir.path])).toBe(`DESTINATION_EXISTS ${at(name)}`);
    await expect(checkNewFile(at('folder'), [dir.path], [])).rejects.toMatchObject({ reason: 'FIELD_INVALID' });
  });

  it('may be a file of zero length, unless a domain has that very file open, by whatever name', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'empty');
    await writeFile(path, '');
    await symlink(path, join(dir.path, 'link'));
    const other = { domain: 'vm1', graph: graphWith(join(dir.path, 'other')) };
    expect(await checkNewFile(path, [dir.path], [other])).toEqual({ path, takeOver: true });
    for (const name of [path, join(dir.path, 'link')]) {
      const graphs = [other, { domain: 'vm2', graph: graphWith(name) }];
      await expect(checkNewFile(path, [dir.path], graphs)).rejects.toMatchObject({
        reason: 'DESTINATION_IN_USE',
        failure: { metadata: { path, by: 'node n1 of domain vm2' } },
      });
    }
  });

  it('cannot have a name that is too long', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x'.repeat(256));
    await expect(checkNewFile(path, [dir.path], [])).rejects.toMatchObject({
      reason: 'FIELD_INVALID',
      failure: { metadata: { field: 'destination.file' } },
    });
  });

  it.skipIf(!AS_ROOT)('exists if a device node is there', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'null');
    execFileSync('mknod', [path, 'c', '1', '3']);
    expect(await checked(path, [dir.path])).toBe(`DESTINATION_EXISTS ${path}`);
  });

  it.skipIf(!AS_ROOT)('is denied in a read-only file system', async () => {
    await using dir = await testDir();
    const at = join(dir.path, 'read-only');
    await using _mount = await mounted(at, 'ro,size=4m');
    await expect(checkNewFile(join(at, 'x'), [dir.path], [])).rejects.toMatchObject({
      reason: 'ACCESS_DENIED',
      failure: { metadata: { why: 'EROFS' } },
    });
  });

  it.skipIf(!AS_ROOT)('has no space in a file system that is all but full', async () => {
    await using dir = await testDir();
    const at = join(dir.path, 'small');
    await using _mount = await mounted(at, 'size=2m');
    expect(await checked(join(at, 'x'), [dir.path])).toBe(join(at, 'x'));
    await writeFile(join(at, 'filler'), Buffer.alloc(1024 * 1024 + 4096));
    expect(await checked(join(at, 'x'), [dir.path])).toBe(`NO_SPACE ${at}/x`);
  });

  it.skipIf(process.getuid?.() === 0)('is denied in a folder that we may not write to', async () => {
    await using dir = await testDir();
    const folder = join(dir.path, 'closed');
    await mkdir(folder);
    await chmod(folder, 0o500);
    expect(await checked(join(folder, 'x'), [dir.path])).toBe(`ACCESS_DENIED ${folder}/x`);
    await chmod(folder, 0o700);
  });
});

/** A new file, or one that is there with zero length. */
async function making(path: string, sizeBytes: number, owner?: FileOwner, takeOver = false): Promise<MadeFile> {
  return await createFile({ do: 'create-file', path, takeOver, sizeBytes, owner });
}

describe('making the file', () => {
  it('gives it its size, its owner, and nobody else a look at it', async () => {
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

  it('takes over a file of zero length, and says that it is not ours', async () => {
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

  it('leaves alone what is there, whatever it is', async () => {
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

  it('makes it for one of twenty who want it at once', async () => {
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

  // What another job has just made is of zero length too, and must not be taken for an empty file of the caller's.
  it('gives it to nobody else of the twenty', async () => {
    await using dir = await testDir();
    const race = await Promise.allSettled(
      Array.from({ length: 20 }, async () => await making(join(dir.path, 'x'), 0, undefined)),
    );
    expect(race.filter((one) => one.status === 'fulfilled')).toHaveLength(1);
  });

  it('leaves no file behind when it fails', async () => {
    await using dir = await testDir();
    const path = join(dir.path, 'x');
    await expect(making(path, Number.MAX_SAFE_INTEGER, undefined)).rejects.toMatchObject({ code: 'EFBIG' });
    await expect(lstat(path)).rejects.toThrow('ENOENT');
  });
});

describe('removing the file', () => {
  it('removes one that we made, once and again', async () => {
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

  it.each([true, false])('leaves alone what has taken its place (made by us: %s)', async (created) => {
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
  it('leaves alone a file of somebody else’s that was given the same inode', async ({ skip }) => {
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
    const elsewhere: MadeFile = { ...made, device: `${made.device}1` };
    await removeFile(elsewhere);
    expect((await stat(made.path)).size).toBe(4096);
    await rename(made.path, join(dir.path, 'moved'));
    await removeFile(made);
    expect((await stat(join(dir.path, 'moved'))).size).toBe(4096);
  });

  it('knows a file of ours by its name in the journal, after it was opened and written by QEMU', async () => {
    await using dir = await testDir();
    const made = await making(join(dir.path, 'x'), 0, undefined);
    await using handle = await open(made.path, 'r+');
    await handle.write('a header and more');
    const again: MadeFile = JSON.parse(JSON.stringify(made));
    await removeFile(again);
    await expect(lstat(join(dir.path, basename(made.path)))).rejects.toThrow('ENOENT');
  });
});
