/** Block devices of the tests' own. */
import { randomUUID } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../real-qemu/qemu.ts';

/** A loop device full of zeroes. It goes with the last process that has it open, so also if the tests are killed. */
export class LoopDevice implements Disposable {
  readonly path: string;
  readonly #fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  static async make(folder: string, sizeBytes: number): Promise<LoopDevice> {
    const path = join(folder, `device-${randomUUID()}`);
    await using file = await open(path, 'wx');
    await file.truncate(sizeBytes);
    return await LoopDevice.over(path);
  }

  /** Over an existing image. */
  static async over(file: string): Promise<LoopDevice> {
    const path = (await run('losetup', ['--find', '--show', file])).stdout.trim();
    const fd = openSync(path, 'r');
    await run('losetup', ['--detach', path]);
    return new LoopDevice(path, fd);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
