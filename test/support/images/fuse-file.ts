/** A file on a file system that other hosts may have, too: FUSE, with one file, over an existing file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { eventually } from '../checks.ts';

export class FuseFile implements AsyncDisposable {
  readonly path: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  private constructor(path: string, child: ChildProcess) {
    this.path = path;
    this.#child = child;
    this.#exited = once(child, 'exit');
  }

  /** At `path`, with the contents of `file`. */
  static async over(file: string, path: string): Promise<FuseFile> {
    await writeFile(path, '');
    const child = spawn(
      'qemu-storage-daemon',
      [
        '--blockdev',
        `driver=file,node-name=file,filename=${file}`,
        '--export',
        `type=fuse,id=fuse,node-name=file,mountpoint=${path},writable=on,growable=on`,
      ],
      { stdio: 'ignore' },
    );
    const mounted = new FuseFile(path, child);
    await eventually(`${path} is mounted`, async () =>
      (await readFile('/proc/self/mountinfo', 'utf8')).includes(` ${path} `) ? true : undefined,
    );
    return mounted;
  }

  /** Its file system answers nothing, until the result is disposed of. */
  hang(): Disposable {
    this.#child.kill('SIGSTOP');
    return { [Symbol.dispose]: () => void this.#child.kill('SIGCONT') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill();
    await this.#exited;
  }
}
