/** A file system of a test, which can be full or read-only. */
import { spawnSync } from 'node:child_process';
import { mkdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../real-qemu/qemu.ts';

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

/** An overlay of two file systems, where `stat` reports other devices than the kernel's list of locks. */
export async function overlayFileSystem(folder: string): Promise<{ path: string } & AsyncDisposable> {
  await using started = new AsyncDisposableStack();
  const upper = started.use(await smallFileSystem(folder, 64));
  const path = join(upper.path, 'merged');
  const [lower, top, work] = [join(folder, 'lower'), join(upper.path, 'upper'), join(upper.path, 'work')];
  for (const one of [path, lower, top, work]) await mkdir(one);
  await run('mount', ['-t', 'overlay', '-o', `lowerdir=${lower},upperdir=${top},workdir=${work}`, 'overlay', path]);
  started.defer(async () => void (await run('umount', ['-l', path])));
  const held = started.move();
  return { path, [Symbol.asyncDispose]: async () => await held.disposeAsync() };
}

/** Takes all free space, in a file that can be removed again. */
export async function fill(folder: string): Promise<string> {
  const { bavail, bsize } = await statfs(folder);
  const path = join(folder, 'filler');
  // The file may get less, if others take the space meanwhile.
  await writeFile(path, Buffer.alloc(bavail * bsize, 1)).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
  });
  return path;
}
