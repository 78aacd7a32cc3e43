/**
 * A VM with one disk over three images, which is restored after a job has moved its disk: with the same name and paths.
 */
import { cp, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { graphOf, hashOf, monitorIn } from '../checks.ts';
import { type ChainImage, makeChain, type Qemu, run, startQemu, testDir } from '../real-qemu/qemu.ts';

/** The objects that the test looks at without the service. */
export interface Surroundings {
  readonly graph: string;
  readonly files: string;
}

const MIB = 1 << 20;

export class FuzzMachine implements AsyncDisposable {
  readonly name: string;
  readonly dir: string;
  readonly chain: readonly ChainImage[];
  readonly #sockets: string;
  readonly #held: AsyncDisposableStack;
  #qemu: Qemu | undefined;

  private constructor(held: AsyncDisposableStack, dir: string, chain: readonly ChainImage[], sockets: string) {
    this.#held = held;
    this.dir = dir;
    this.name = `m${dir.slice(-6)}`;
    this.chain = chain;
    this.#sockets = sockets;
  }

  /** With a monitor in the folder `sockets`. */
  static async start(sockets: string): Promise<FuzzMachine> {
    await using held = new AsyncDisposableStack();
    const { path: dir } = held.use(await testDir());
    await mkdir(join(dir, 'kept'));
    await mkdir(join(dir, 'src'));
    const formats = ['qcow2', 'qcow2', 'qcow2'] as const;
    const chain = await makeChain(join(dir, 'src'), { formats, sizeBytes: MIB });
    await cp(join(dir, 'src'), join(dir, 'kept'), { recursive: true });
    const machine = new FuzzMachine(held.move(), dir, chain, sockets);
    try {
      await machine.putBack();
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
    return machine;
  }

  /** Starts another QEMU, on the images in their first state. */
  async putBack(): Promise<void> {
    await this.#qemu?.[Symbol.asyncDispose]();
    this.#qemu = undefined;
    for (const folder of ['src', 'dst']) await rm(join(this.dir, folder), { recursive: true, force: true });
    await cp(join(this.dir, 'kept'), join(this.dir, 'src'), { recursive: true });
    const dst = join(this.dir, 'dst');
    await mkdir(dst);
    await writeFile(join(dst, 'there'), 'precious');
    await run('mkfifo', [join(dst, 'fifo')]);
    await symlink('/etc/passwd', join(dst, 'link'));
    this.#qemu = await startQemu({
      style: 'blockdev',
      name: this.name,
      disks: [{ id: 'disk0', bus: 'virtio-blk', chain: this.chain }],
      extraArgs: monitorIn(this.#sockets, this.name),
    });
  }

  async world(): Promise<Surroundings> {
    if (this.#qemu === undefined) throw new Error('there is no QEMU');
    const dst = join(this.dir, 'dst');
    const [graph, names, above, there] = await Promise.all([
      graphOf(this.#qemu.admin),
      readdir(dst),
      readdir(this.dir),
      hashOf(join(dst, 'there')),
    ]);
    return { graph: JSON.stringify(graph), files: JSON.stringify([names.toSorted(), above.toSorted(), there]) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#qemu?.[Symbol.asyncDispose]();
    await this.#held.disposeAsync();
  }
}
