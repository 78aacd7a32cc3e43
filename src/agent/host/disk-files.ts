/**
 * Access to the file systems of VM disks. One of them may hang for ever, for example NFS without its server, and each
 * call to it keeps a thread. So these calls have a share of the threads, and the rest is for journals: jobs of other
 * disks continue, and all can be asked for.
 */
import type { BigIntStats, StatsFs } from 'node:fs';
import * as all from 'node:fs/promises';
import pLimit from 'p-limit';

/** Out of the 64 that src/config/file-threads.ts asks for; look-ups of host names can take 32. */
const THREADS = 24;
const inTurn = pLimit(THREADS);

export const lstat = async (path: string): Promise<BigIntStats> =>
  await inTurn(async () => await all.lstat(path, { bigint: true }));

export const stat = async (path: string): Promise<BigIntStats> =>
  await inTurn(async () => await all.stat(path, { bigint: true }));

export const readlink = async (path: string): Promise<string> => await inTurn(async () => await all.readlink(path));

export const statfs = async (path: string): Promise<StatsFs> => await inTurn(async () => await all.statfs(path));

export const realpath = async (path: string): Promise<string> => await inTurn(async () => await all.realpath(path));

export const access = async (path: string, mode: number): Promise<void> =>
  await inTurn(async () => await all.access(path, mode));

export const unlink = async (path: string): Promise<void> => await inTurn(async () => await all.unlink(path));

export const open = async (path: string, flags: number, mode?: number): Promise<DiskFile> =>
  new DiskFile(await inTurn(async () => await all.open(path, flags, mode)));

/** An open file. */
export class DiskFile implements AsyncDisposable {
  readonly #handle: all.FileHandle;

  constructor(handle: all.FileHandle) {
    this.#handle = handle;
  }

  get descriptor(): number {
    return this.#handle.fd;
  }

  async stat(): Promise<BigIntStats> {
    return await inTurn(async () => await this.#handle.stat({ bigint: true }));
  }

  async chown(uid: number, gid: number): Promise<void> {
    await inTurn(async () => await this.#handle.chown(uid, gid));
  }

  async chmod(mode: number): Promise<void> {
    await inTurn(async () => await this.#handle.chmod(mode));
  }

  async truncate(sizeBytes: number): Promise<void> {
    await inTurn(async () => await this.#handle.truncate(sizeBytes));
  }

  async sync(): Promise<void> {
    await inTurn(async () => await this.#handle.sync());
  }

  /** Like FileHandle.read. */
  async read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }> {
    return await inTurn(async () => await this.#handle.read(buffer, offset, length, position));
  }

  async close(): Promise<void> {
    await inTurn(async () => await this.#handle.close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
