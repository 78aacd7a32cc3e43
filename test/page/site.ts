/** A real service with its page, and a real QEMU with a disk of three images. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Job } from '../../generated/blockjob/v1/job.ts';
import { monitorIn, present } from '../support/checks.ts';
import { freePort } from '../support/fleet/etcd.ts';
import { type ChainImage, makeChain, type Qemu, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { Service, type ServiceOptions } from '../support/service/service.ts';

export const MIB = 1024 * 1024;

export interface SiteOptions {
  /** The domain's name, for QEMU. */
  readonly name?: string;
  /** The folder of the service and its images. */
  readonly folder?: string;
}

export class Site implements AsyncDisposable {
  readonly dir: string;
  readonly name: string;
  readonly chain: readonly ChainImage[];
  readonly url: string;
  readonly qemu: Qemu;
  readonly #options: ServiceOptions;
  readonly #held: AsyncDisposableStack;
  #service: Service;

  private constructor(parts: {
    dir: string;
    name: string;
    chain: readonly ChainImage[];
    url: string;
    qemu: Qemu;
    options: ServiceOptions;
    service: Service;
    held: AsyncDisposableStack;
  }) {
    this.dir = parts.dir;
    this.name = parts.name;
    this.chain = parts.chain;
    this.url = parts.url;
    this.qemu = parts.qemu;
    this.#options = parts.options;
    this.#service = parts.service;
    this.#held = parts.held;
  }

  static async open({ name = 'web1', folder }: SiteOptions = {}): Promise<Site> {
    await using held = new AsyncDisposableStack();
    const dir = folder ?? held.use(await testDir()).path;
    const chain = await makeChain(dir, { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: 64 * MIB });
    const sockets = join(dir, 'sockets');
    await mkdir(sockets);
    const disks = [{ id: 'virtio0', bus: 'virtio-blk', chain }] as const;
    const qemu = held.use(await startQemu({ style: 'blockdev', name, disks, extraArgs: monitorIn(sockets, 'vm') }));
    const port = await freePort();
    const args = ['--page', `127.0.0.1:${port}`];
    const options = { dir, qmpDir: sockets, allow: [dir], args };
    const service = await Service.start(options);
    await service.domainUp(name);
    return new Site({ dir, name, chain, url: `http://127.0.0.1:${port}/`, qemu, options, service, held: held.move() });
  }

  get service(): Service {
    return this.#service;
  }

  get top(): string {
    return present(this.chain.at(-1)).path;
  }

  /** As after a crash: the page's port is free, and then served again. */
  async restart(between: () => Promise<void>): Promise<void> {
    await this.#service.kill();
    await between();
    this.#service = await Service.start(this.#options);
    await this.#service.domainUp(this.name);
  }

  async copy(to: string, bandwidthBytesPerSecond: number): Promise<Job> {
    return await this.#service.startCopy({
      disk: { domain: this.name, disk: 'virtio0' },
      destination: { target: { $case: 'file', value: to } },
      bandwidthBytesPerSecond: BigInt(bandwidthBytesPerSecond),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#service.kill();
    await this.#held.disposeAsync();
  }
}
