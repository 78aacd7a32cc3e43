/** One service, and QEMUs under it with chains of their own: the start of the suites of pulls, copies and commits. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Job } from '../../../generated/blockjob/v1/job.ts';
import { expectWell, GuestDisk, monitorIn, present } from '../checks.ts';
import { Service, type ServiceOptions } from '../service/service.ts';
import {
  type Bus,
  type ChainImage,
  type ChainOptions,
  makeChain,
  type Qemu,
  type Style,
  startQemu,
  testDir,
} from './qemu.ts';

export const MIB = 1 << 20;

export interface Machine extends AsyncDisposable {
  readonly qemu: Qemu;
  /** Base first, top last. */
  readonly chain: readonly ChainImage[];
  readonly top: ChainImage;
  readonly guest: GuestDisk;
  /** A folder of this machine; destinations may be below it. */
  readonly dir: string;
  readonly disk: { readonly domain: string; readonly disk: string };
}

export interface MachineOptions extends Partial<ChainOptions> {
  readonly style?: Style;
  readonly bus?: Bus;
  readonly extraArgs?: readonly string[];
}

export class Site implements AsyncDisposable {
  readonly stateFolder: string;
  readonly #options: ServiceOptions;
  /** QEMUs with a socket here belong to the service. */
  readonly sockets: string;
  readonly #held: AsyncDisposableStack;
  #service: Service;
  /** Errors that the service must log. */
  complaints?: RegExp;
  /** The command that starts the service from its next start on, as in a namespace of its own; nothing by default. */
  under?: readonly string[];

  private constructor(service: Service, options: ServiceOptions, sockets: string, held: AsyncDisposableStack) {
    this.#service = service;
    this.#options = options;
    this.stateFolder = join(options.dir, 'state');
    this.sockets = sockets;
    this.#held = held;
  }

  get service(): Service {
    return this.#service;
  }

  static async open(allow: readonly string[] = [], args: readonly string[] = []): Promise<Site> {
    const held = new AsyncDisposableStack();
    const { path } = held.use(await testDir());
    const sockets = held.use(await testDir('bj-qmp-')).path;
    const options = { dir: path, qmpDir: sockets, allow: ['/tmp', ...allow], args };
    return new Site(await Service.start(options), options, sockets, held);
  }

  /** Ends the service, and starts it again with the same state; `domain`, if given, answers when this returns. */
  async restart(how: 'SIGTERM' | 'SIGKILL', domain: string | undefined, between?: () => Promise<void>): Promise<void> {
    expectWell(this.#service, this.complaints);
    if (how === 'SIGTERM') await this.#service.stop();
    else await this.#service.kill();
    await between?.();
    this.#service = await Service.start({ ...this.#options, ...(this.under && { under: this.under }) });
    if (domain !== undefined) await this.#service.domainUp(domain);
  }

  /** A QEMU with one disk, `disk0`, known to the service. */
  async machine(options: MachineOptions = {}): Promise<Machine> {
    const { style = 'blockdev', bus = 'virtio-blk', extraArgs = [], ...more } = options;
    await using started = new AsyncDisposableStack();
    const { path: dir } = started.use(await testDir());
    await mkdir(join(dir, 'src'));
    const chain = await makeChain(join(dir, 'src'), {
      formats: ['qcow2', 'qcow2', 'qcow2'],
      sizeBytes: 4 * MIB,
      ...more,
    });
    const top = present(chain.at(-1));
    const name = `m${dir.slice(-6)}`;
    const qemu = started.use(
      await startQemu({
        style,
        name,
        disks: [{ id: 'disk0', bus, chain }],
        extraArgs: [...monitorIn(this.sockets, name), ...extraArgs],
      }),
    );
    const [guest] = await Promise.all([GuestDisk.of(qemu.admin, 'disk0', top, dir), this.service.domainUp(name)]);
    const held = started.move();
    return {
      qemu,
      chain,
      top,
      guest,
      dir,
      disk: { domain: name, disk: 'disk0' },
      [Symbol.asyncDispose]: async () => await held.disposeAsync(),
    };
  }

  /** The job after its end, whatever that is. */
  async ended({ id }: Job): Promise<Job> {
    for await (const _event of this.service.watch(id));
    return await this.service.getInfo(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      expectWell(this.service, this.complaints);
    } finally {
      await this.#service.stop();
      await this.#held.disposeAsync();
    }
  }
}
