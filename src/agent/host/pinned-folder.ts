/**
 * A folder that is held open. Operations in it happen in that very folder, wherever its name leads by then: a user with
 * write access above it could put a link in its place between a look and a use. Node has no openat(2), and the kernel
 * takes a name below /proc/self/fd/N for one in the folder that is open as N.
 */
import { type BigIntStats, constants, readlinkSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { fail } from '../../core/errors.ts';
import { type DiskFile, lstat, open, unlink } from './disk-files.ts';

/** Opens only the name of a file: needs no right to read it, and never blocks (fcntl.h; Node has no constant for it). */
export const O_PATH = 0o10_000_000;

export class PinnedFolder implements AsyncDisposable {
  /** Its path when it was opened, from the kernel: without symbolic links. */
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
      return new PinnedFolder(currentPath(handle), handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** The folder of a path that had no link when it was looked at. Throws PATH_REPLACED if it has one now. */
  static async of(path: string): Promise<PinnedFolder> {
    const folder = await PinnedFolder.open(dirname(path));
    if (folder.path === dirname(path)) return folder;
    await folder[Symbol.asyncDispose]();
    fail('PATH_REPLACED', { path });
  }

  /** The path of the file with this name here, for as long as the folder is held. */
  in(path: string): string {
    return `${linkTo(this.#handle)}/${basename(path)}`;
  }

  /** As a file of the folder itself: only the last part of the path is used. Undefined if nothing is there. */
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

  /** A new or removed name is certain after a power cut only if its folder was synced. */
  async sync(): Promise<void> {
    // Some file systems have folders that cannot be opened or synced; those names are as stable as they can be.
    const folder = `${linkTo(this.#handle)}/.`;
    await using handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY).catch(() => undefined);
    await handle?.sync().catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'EINVAL')) throw error;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** Its present path, without symbolic links. It does not ask a file system. */
export function currentPath(file: DiskFile): string {
  return readlinkSync(linkTo(file));
}

function linkTo({ descriptor }: DiskFile): string {
  return `/proc/self/fd/${descriptor}`;
}

/**
 * The folder in which a start has made its file. It is held open until the start is over, so that the file can be
 * removed even if the folder has another name by then.
 */
export class MadeIn implements AsyncDisposable {
  #folder: PinnedFolder | undefined;

  /** Undefined if this process made nothing, or the start is over. */
  get folder(): PinnedFolder | undefined {
    return this.#folder;
  }

  async keep(folder: PinnedFolder): Promise<void> {
    await this[Symbol.asyncDispose]();
    this.#folder = folder;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const folder = this.#folder;
    this.#folder = undefined;
    await folder?.[Symbol.asyncDispose]();
  }
}
