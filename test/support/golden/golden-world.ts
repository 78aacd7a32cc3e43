/**
 * The start of the recorded cases, an eighth as large: the disk `vda` of a paused QEMU, its images in one folder, and
 * in another the destination. It is made again only if a case has changed it.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, open, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { hashOf, listing, monitorIn, present } from '../checks.ts';
import type { LoopDevice } from '../images/loop-device.ts';
import { type ChainImage, compareImages, imageInfo, type Qemu, run, startQemu } from '../real-qemu/qemu.ts';
import type { Service } from '../service/service.ts';
import type { ExpectedImage } from './golden.ts';
import {
  DEVICE_BYTES,
  type DestinationKind,
  type DeviceKind,
  formatOf,
  makeDestination,
  makeSource,
  type SourceKind,
} from './golden-images.ts';

/** The block devices that stand for the recorded ones. */
export type Devices = Readonly<Record<DeviceKind, LoopDevice>>;

export interface WorldOptions {
  /** The folder of this world alone; its path is short enough for sockets. */
  readonly folder: string;
  readonly source: SourceKind;
  /** The size of the source; an eighth of the recorded one, if it is not given. */
  readonly sizeBytes?: number;
  readonly service: Service;
  /** The folder in which the service looks for QEMUs. */
  readonly sockets: string;
  readonly devices: Devices | undefined;
}

export class World implements AsyncDisposable {
  readonly #options: WorldOptions;
  readonly src: string;
  readonly dst: string;
  /** The chain of the source, base first. */
  readonly #chain: readonly ChainImage[];
  readonly #pristine: string;
  readonly #sourceHashes: readonly string[];
  #qemu: Qemu | undefined;
  #laid: DestinationKind | 'dirty' = 'dirty';
  #before: readonly string[] = [];
  #count = 0;

  private constructor(options: WorldOptions, chain: readonly ChainImage[], hashes: readonly string[]) {
    this.#options = options;
    this.#chain = chain;
    this.#sourceHashes = hashes;
    this.src = join(options.folder, 'src');
    this.dst = join(options.folder, 'dst');
    this.#pristine = join(options.folder, 'pristine.raw');
  }

  static async make(options: WorldOptions): Promise<World> {
    const { folder, source, sizeBytes } = options;
    for (const name of ['src', 'dst', 'kept']) await mkdir(join(folder, name));
    const chain = await makeSource(join(folder, 'src'), source, sizeBytes);
    const top = present(chain.at(-1));
    await run('qemu-img', ['convert', '-f', top.format, '-O', 'raw', top.path, join(folder, 'pristine.raw')]);
    await cp(join(folder, 'src'), join(folder, 'kept', 'src'), { recursive: true });
    return new World(options, chain, await Promise.all(chain.map(({ path }) => hashOf(path))));
  }

  /** The source's first active image. */
  get top(): string {
    return present(this.#chain.at(-1)).path;
  }

  /**
   * A path or an image of the record, translated to this machine. libvirt counts a chain's images from 1, this service
   * from 0.
   */
  here(name: string): string {
    const { devices } = this.#options;
    // One of ours may have the recorded name of another one: each name is replaced once.
    if (name === '/dev/loop0') return devices?.['blockdev-64M'].path ?? name;
    if (name === '/dev/loop1') return devices?.['blockdev-80M'].path ?? name;
    if (name === '/vm/private-null') return join(this.dst, 'copy.img');
    if (name.startsWith('/vm/src/')) return join(this.src, name.slice('/vm/src/'.length));
    if (name.startsWith('/vm/dst/')) return join(this.dst, name.slice('/vm/dst/'.length));
    return name.replace(/^(\w+)\[(\d+)\]$/, (_, disk: string, index: string) => `${disk}[${Number(index) - 1}]`);
  }

  /** A path of this machine, as in the record. */
  there(name: string): string {
    const { devices } = this.#options;
    if (devices !== undefined && name === devices['blockdev-64M'].path) return '/dev/loop0';
    if (devices !== undefined && name === devices['blockdev-80M'].path) return '/dev/loop1';
    if (name.startsWith(`${this.src}/`)) return `/vm/src${name.slice(this.src.length)}`;
    return name.startsWith(`${this.dst}/`) ? `/vm/dst${name.slice(this.dst.length)}` : name;
  }

  /** The disk; its QEMU runs and is known to the service. */
  async disk(): Promise<{ readonly domain: string; readonly disk: string }> {
    const { name } = await this.#running();
    return { domain: name, disk: 'vda' };
  }

  async #running(): Promise<Qemu> {
    if (this.#qemu !== undefined) return this.#qemu;
    const { service, sockets, source, folder } = this.#options;
    await rm(this.src, { recursive: true });
    await cp(join(folder, 'kept', 'src'), this.src, { recursive: true });
    const name = `${source}-${(this.#count += 1)}`;
    this.#qemu = await startQemu({
      style: 'blockdev',
      name,
      disks: [
        { id: 'vda', bus: 'virtio-blk', chain: this.#chain },
        { id: 'sda', empty: true },
      ],
      extraArgs: ['-S', ...monitorIn(sockets, name)],
    });
    await service.domainUp(name);
    this.#laid = 'dirty';
    return this.#qemu;
  }

  /** Makes the destination, unless it exists unchanged, and records the state that a refusal must not change. */
  async lay(kind: DestinationKind): Promise<void> {
    await this.#running();
    if (this.#laid === kind) return;
    const { folder, source, devices } = this.#options;
    await rm(this.dst, { recursive: true });
    await mkdir(this.dst);
    if (kind === 'blockdev-64M' || kind === 'blockdev-80M')
      await zero(present(devices, 'block devices')[kind].path, DEVICE_BYTES[kind]);
    else if (kind === 'character-device') await run('mknod', [join(this.dst, 'copy.img'), 'c', '1', '3']);
    else if (kind === 'directory') await mkdir(join(this.dst, 'copy.img'));
    else if (kind !== 'absent') {
      const kept = join(folder, 'kept', kind);
      if (!existsSync(kept)) await makeDestination(kind, kept, { kind: source, folder: this.src });
      await cp(kept, this.dst, { recursive: true });
    }
    this.#laid = kind;
    this.#before = await this.#state();
  }

  /** Everything that a refused call leaves alone: the files, the devices, and QEMU's open files. */
  async #state(): Promise<readonly string[]> {
    const { admin } = await this.#running();
    const nodes = await admin.execute<{ 'node-name': string; file: string }[]>('query-named-block-nodes', {
      flat: true,
    });
    const jobs = await admin.execute<{ id: string }[]>('query-jobs');
    const device = this.#laid === 'blockdev-64M' || this.#laid === 'blockdev-80M' ? this.#laid : undefined;
    return [
      ...(await listing(this.src)),
      ...(await listing(this.dst)),
      ...(device === undefined ? [] : [await hashOf(present(this.#options.devices)[device].path)]),
      ...nodes.map((node) => `${node['node-name']} ${node.file}`),
      ...jobs.map(({ id }) => `job ${id}`),
    ];
  }

  /** The changes since the destination was made; [] if there are none. */
  async changes(): Promise<readonly string[]> {
    const now = await this.#state();
    return [
      ...this.#before.filter((line) => !now.includes(line)).map((line) => `- ${line}`),
      ...now.filter((line) => !this.#before.includes(line)).map((line) => `+ ${line}`),
    ];
  }

  /** The destination has changed; the disk has not. */
  used(): void {
    this.#laid = 'dirty';
  }

  /** The disk has changed. Ends the QEMU; the next case gets another one, and its images again. */
  async spent(): Promise<void> {
    const qemu = this.#qemu;
    this.#qemu = undefined;
    this.#laid = 'dirty';
    await qemu?.[Symbol.asyncDispose]();
  }

  // ---- the present state ----------------------------------------------------------------------------------

  /** The images under the guest, top first, as QEMU reports them; paths as in the record. */
  async chain(): Promise<readonly string[]> {
    const { admin } = await this.#running();
    const { inserted } = await admin.block('vda');
    const chain: string[] = [];
    for (let image: Backed | undefined = inserted?.image; image !== undefined; image = image['backing-image'])
      chain.push(this.there(plainName(image.filename)));
    // A job's filter has the name of the image below it.
    return chain.filter((path, index) => path !== chain[index - 1]);
  }

  /** The images of the source whose contents have changed. */
  async changedSources(): Promise<readonly string[]> {
    const hashes = await Promise.all(this.#chain.map(({ path }) => hashOf(path).catch(() => 'gone')));
    return this.#chain.filter((_, index) => hashes[index] !== this.#sourceHashes[index]).map(({ path }) => path);
  }

  async image(path: string): Promise<ExpectedImage> {
    const format = await formatOf(path);
    const info = await imageInfo(path, format);
    const backing = info['backing-filename'];
    return {
      format,
      virtualSize: info['virtual-size'],
      backing: backing === undefined ? undefined : this.there(backing),
      backingFormat: info['backing-filename-format'],
    };
  }

  /** For each image that the source had: the backing name in its header, and whether it changed; null if it is gone. */
  async layers(): Promise<Readonly<Record<string, Layer | null>>> {
    const changed = await this.changedSources();
    const layers = this.#chain.map(async ({ path }): Promise<[string, Layer | null]> => {
      if (!existsSync(path)) return [basename(path), null];
      const { backing = null } = await this.image(path);
      return [basename(path), { backing, changed: changed.includes(path) }];
    });
    return Object.fromEntries(await Promise.all(layers));
  }

  /** Whether the image, with its chain, has the guest's first contents. */
  async isIdentical(path: string): Promise<boolean> {
    const { identical } = await compareImages(this.#pristine, 'raw', path, await formatOf(path), { live: true });
    return identical;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.spent();
  }
}

async function zero(path: string, bytes: number): Promise<void> {
  await using device = await open(path, 'r+');
  await device.write(Buffer.alloc(bytes), 0, bytes, 0);
  await device.sync();
}

/** QEMU names an image by its options if its header does not say the same. */
function plainName(name: string): string {
  if (!name.startsWith('json:')) return name;
  const { file }: { readonly file: { readonly filename: string } } = JSON.parse(name.slice(5));
  return file.filename;
}

export interface Layer {
  readonly backing: string | null;
  readonly changed: boolean;
}

interface Backed {
  readonly filename: string;
  readonly 'backing-image'?: Backed;
}
