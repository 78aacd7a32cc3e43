/**
 * A file system of a test whose power can be cut: data that was not synced is gone then, as on a host that loses its
 * power.
 */
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { PYTHON } from '../means.ts';
import { run } from '../real-qemu/qemu.ts';

/** EXT4_IOC_SHUTDOWN, with NOLOGFLUSH: even the journal's buffer is not written any more. */
const SHUT_DOWN = `
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))`;

export class FragileFileSystem implements AsyncDisposable {
  /** The mount point. */
  readonly path: string;
  readonly #device: string;

  private constructor(path: string, device: string) {
    this.path = path;
    this.#device = device;
  }

  static async make(folder: string, mib: number): Promise<FragileFileSystem> {
    const [device, path] = [join(folder, 'device.img'), join(folder, 'fs')];
    await mkdir(path);
    await using file = await open(device, 'wx');
    await file.truncate(mib * 1024 * 1024);
    await run('mkfs.ext4', ['-q', '-F', device]);
    await run('mount', ['-o', 'loop', device, path]);
    return new FragileFileSystem(path, device);
  }

  /** Keeps all writes until now. */
  async sync(): Promise<void> {
    await run('sync', ['--file-system', this.path]);
  }

  /** From here on it fails for all programs. */
  async cut(): Promise<void> {
    await run(PYTHON, ['-c', SHUT_DOWN, this.path]);
  }

  /**
   * The power is back. A copy of the device is mounted now: the file system that was shut down may still exist for a
   * program that has it open, or in another mount namespace, and would be found again. Its number is another one, as
   * that of a disk may be after a boot.
   */
  async restore(): Promise<void> {
    const [copy, back] = [`${this.#device}.copy`, `${this.path}.back`];
    await run('cp', ['--sparse=always', this.#device, copy]);
    await mkdir(back);
    // While the first one holds its loop device, so that this one gets another.
    await run('mount', ['-o', 'loop', copy, back]);
    await run('umount', ['--lazy', this.path]);
    await run('mount', ['--bind', back, this.path]);
    await run('umount', [back]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('umount', ['-l', this.path]);
  }
}
