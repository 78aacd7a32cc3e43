/**
 * A folder that is held open. What is done in it is done in that very folder, wherever its name leads by then: who may write
 * somewhere above it can put a link in its place between a look and a use. Node has no openat(2), and the kernel takes a
 * name below /proc/self/fd/N for one in the folder that is open as N.
 */
import { type BigIntStats, constants } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { fail } from '../../core/errors.ts';
import { type DiskFile, lstat, open, unlink } from './disk-files.ts';

/** Opens only the name of a file: needs no right to read it, and waits for nobody (fcntl.h; Node has no word for it). */
export const O_PATH = 0o10_000_000;

export class PinnedFolder implements AsyncDisposable {
  /** Where it was when it was opened, as the kernel says: without symbolic links. */
  readonly path: string;
  readonly #handle: DiskFile;

  private constructor(path: string, handle: DiskFile) {
    this.path = path;
    this.#handle = handle;
  }

  /** Links are followed to their end. Rejects with the file system's error. */
  static async open(path: string): Promise<PinnedFolder> {
    const handle = await open(path, O_PATH | constants.O_DIRECTORY);
    try {
      return new PinnedFolder(await currentPath(handle), handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** That of a path which had no link on its way when it was looked at. Throws PATH_REPLACED where it has one now. */
  static async of(path: string): Promise<PinnedFolder> {
    const folder = await PinnedFolder.open(dirname(path));
    if (folder.path === dirname(path)) return folder;
    await folder[Symbol.asyncDispose]();
    fail('PATH_REPLACED', { path });
  }

  /** The path of what has this name here, for as long as the folder is held. */
  in(path: string): string {
    return `${linkTo(this.#handle)}/${basename(path)}`;
  }

  /** As files of the folder's own, whatever is at the path: only its last part is looked at. Undefined: nothing is there. */
  async lstat(path: string): Promise<BigIntStats | undefined> {
    return await lstat(this.in(path)).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    });
  }

  /** Never follows a link. */
  async open(path: string, flags: number, mode?: number): Promise<DiskFile> {
    return await open(this.in(path), flags | constants.O_NOFOLLOW, mode);
  }

  async unlink(path: string): Promise<void> {
    await unlink(this.in(path));
  }

  /** A name that is new or gone is so after a power cut only if its folder is synced. */
  async sync(): Promise<void> {
    // Not every file system has folders that can be opened or synced; those names are as stable as they can be.
    const handle = await open(`${linkTo(this.#handle)}/.`, constants.O_RDONLY | constants.O_DIRECTORY).catch(
      () => undefined,
    );
    try {
      await handle?.sync().catch((error: unknown) => {
        if (!(error instanceof Error && 'code' in error && error.code === 'EINVAL')) throw error;
      });
    } finally {
      await handle?.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** Where it is now, without symbolic links. It asks no file system. */
export async function currentPath(file: DiskFile): Promise<string> {
  return await readlink(linkTo(file));
}

function linkTo({ descriptor }: DiskFile): string {
  return `/proc/self/fd/${descriptor}`;
}
