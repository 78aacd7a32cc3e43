/** A file system of a test's own, that can be filled up or be read-only. */
import { spawnSync } from 'node:child_process';
import { mkdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './qemu.ts';

/** Mounting is for root, and not in every container even then. */
export function canMount(): boolean {
  if (process.getuid?.() !== 0) return false;
  return spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;
}

export async function smallFileSystem(
  folder: string,
  mib: number,
  options = '',
): Promise<{ path: string } & AsyncDisposable> {
  const path = join(folder, `fs${String(Math.random()).slice(2, 10)}`);
  await mkdir(path);
  await run('mount', ['-t', 'tmpfs', '-o', `size=${mib}m${options}`, 'tmpfs', path]);
  return {
    path,
    async [Symbol.asyncDispose]() {
      await run('umount', ['-l', path]);
      await rm(path, { recursive: true });
    },
  };
}

/** Takes all the room there is, in a file that can be removed again. */
export async function fill(folder: string): Promise<string> {
  const { bavail, bsize } = await statfs(folder);
  const path = join(folder, 'filler');
  // What others take meanwhile it cannot get.
  await writeFile(path, Buffer.alloc(bavail * bsize, 1)).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
  });
  return path;
}
