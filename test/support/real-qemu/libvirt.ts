/** A libvirt of the test, as a peer: its daemon for one user, with all of its files in one folder, and virsh. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Finished, run, testDir } from './qemu.ts';

/** libvirt serves root from the system's own folders only; so it runs as another user, without rights. */
const NOBODY = 65534;
const START_MS = 20_000;
const isRoot = process.getuid?.() === 0;

export class Libvirt implements AsyncDisposable {
  /** Disks must be below it, and belong to its user: see `own`. */
  readonly dir: string;
  readonly #held: AsyncDisposableStack;

  private constructor(dir: string, held: AsyncDisposableStack) {
    this.dir = dir;
    this.#held = held;
  }

  static async start(): Promise<Libvirt> {
    await using held = new AsyncDisposableStack();
    const { path } = held.use(await testDir('bj-libvirt-'));
    const libvirt = new Libvirt(path, held.move());
    await libvirt.own(path);
    for (const folder of ['run', 'config', 'cache', 'data']) await libvirt.own(join(path, folder), mkdir);
    const [program = '', ...args] = libvirt.#as('libvirtd');
    const daemon = spawn(program, args, { stdio: 'ignore' });
    libvirt.#held.defer(async () => await end(daemon));
    // It does not report when it serves.
    for (const by = performance.now() + START_MS; (await libvirt.virsh(['uri'], [0, 1])).code !== 0; await sleep(100)) {
      if (performance.now() > by) throw new Error(`libvirtd does not answer within ${START_MS} ms`);
    }
    return libvirt;
  }

  /** Makes a file or folder by `make`, unless it exists, and gives it to libvirt's user. */
  async own(path: string, make?: (path: string) => Promise<unknown>): Promise<void> {
    await make?.(path);
    if (isRoot) await chown(path, NOBODY, NOBODY);
  }

  /**
   * Starts a VM without a guest, with one qcow2 image as disk `vda`. `monitor`: the socket of QEMU's monitor for
   * another client.
   */
  async create(name: string, image: string, monitor?: string): Promise<void> {
    const xml = join(this.dir, `${name}.xml`);
    const qmp = `<qemu:arg value='-qmp'/><qemu:arg value='unix:${monitor},server=on,wait=off'/>`;
    const more = monitor === undefined ? '' : `<qemu:commandline>${qmp}</qemu:commandline>`;
    await writeFile(
      xml,
      `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>${name}</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices><disk type='file' device='disk'>
<driver name='qemu' type='qcow2' discard='unmap'/><source file='${image}'/><target dev='vda' bus='virtio'/></disk>
</devices>${more}</domain>`,
    );
    await this.virsh(['create', xml]);
    this.#held.defer(async () => {
      await this.virsh(['destroy', name]);
    });
  }

  async virsh(args: readonly string[], accept: readonly number[] = [0]): Promise<Finished> {
    const [program = '', ...rest] = this.#as('virsh', '-q', '-c', 'qemu:///session', ...args);
    return await run(program, rest, { accept: [...accept] });
  }

  /** Runs a script with Debian's python3, for which libvirt's bindings are. */
  async python(args: readonly string[]): Promise<Finished> {
    const [program = '', ...rest] = this.#as('/usr/bin/python3', ...args);
    return await run(program, rest);
  }

  #as(...command: readonly string[]): readonly string[] {
    const user = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
    const at = (folder: string) => join(this.dir, folder);
    const folders = [
      `HOME=${this.dir}`,
      `XDG_RUNTIME_DIR=${at('run')}`,
      `XDG_CONFIG_HOME=${at('config')}`,
      `XDG_CACHE_HOME=${at('cache')}`,
      `XDG_DATA_HOME=${at('data')}`,
    ];
    const environment = [`PATH=${process.env['PATH']}`, 'LIBVIRT_AUTOSTART=0', ...folders];
    return [...(isRoot ? user : []), 'env', '-i', ...environment, ...command];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#held.disposeAsync();
  }
}

async function end(daemon: ChildProcess): Promise<void> {
  if (daemon.exitCode !== null || daemon.signalCode !== null) return;
  const exited = once(daemon, 'exit');
  daemon.kill('SIGTERM');
  await exited;
}
