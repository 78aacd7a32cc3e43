/** A disk of the guest: its images, from QEMU's own graph, and its writer, which rests during a check. */
import { join } from 'node:path';
import type { Lane } from '../../src/lib/lane.ts';
import { eventually, graphOf, present } from '../support/checks.ts';
import type { GuestVm } from '../support/real-qemu/guest-vm.ts';
import type { AckedByTime } from '../support/real-qemu/moments.ts';
import type { Admin, ChainImage } from '../support/real-qemu/qemu.ts';
import type { FormatTurns } from './format-turns.ts';
import type { Bus } from './plan.ts';

/** A long limit, for a busy guest. */
const WORK_MS = 60_000;

export interface LiveDiskParts {
  readonly vm: GuestVm;
  readonly admin: Admin;
  readonly id: number;
  readonly bus: Bus;
  readonly domain: string;
  /** The folder for its images. */
  readonly folder: string;
  /** The guest's console takes one line at a time. */
  readonly console: Lane;
  readonly turns: FormatTurns;
}

export class LiveDisk {
  readonly id: number;
  readonly bus: Bus;
  readonly folder: string;
  readonly ref: { readonly domain: string; readonly disk: string };
  readonly #vm: GuestVm;
  readonly #admin: Admin;
  readonly #console: Lane;
  readonly #turns: FormatTurns;
  /** The images behind NBD servers, by the name that QEMU uses. */
  readonly #served = new Map<string, ChainImage>();

  constructor({ vm, admin, id, bus, domain, folder, console, turns }: LiveDiskParts) {
    this.id = id;
    this.bus = bus;
    this.folder = folder;
    this.ref = { domain, disk: vm.deviceId(id) };
    this.#vm = vm;
    this.#admin = admin;
    this.#console = console;
    this.#turns = turns;
  }

  /** Each image's name and format, the active one first, and the nodes that it takes. */
  async chain(): Promise<{
    readonly images: readonly [ChainImage, ...ChainImage[]];
    readonly nodes: readonly string[];
  }> {
    const { nodes, edges } = await this.#turns.apart(async () => await graphOf(this.#admin));
    const driverAndFile = new Map(nodes.map((node) => [node.split(' ')[0], node.split(' ').slice(1)] as const));
    const below = (node: string, edge: string) => {
      const start = `block-driver ${node} --${edge}--> block-driver `;
      return edges.find((one) => one.startsWith(start))?.slice(start.length);
    };
    const images: ChainImage[] = [];
    const taken: string[] = [];
    const top = present((await this.#admin.block(this.ref.disk)).inserted)['node-name'];
    for (let node: string | undefined = top; node !== undefined; node = below(node, 'backing')) {
      const bytes = below(node, 'file') ?? node;
      const path = present(driverAndFile.get(bytes))[1] ?? '';
      images.push({ path, format: driverAndFile.get(node)?.[0] === 'qcow2' ? 'qcow2' : 'raw' });
      taken.push(node, bytes);
    }
    const [first, ...rest] = images;
    return { images: [present(first), ...rest], nodes: taken };
  }

  serve(name: string, image: ChainImage): void {
    this.#served.set(name, image);
  }

  /** The file with the bytes of an image, by QEMU's name for it. */
  bytesOf(image: ChainImage): ChainImage {
    return this.#served.get(image.path) ?? image;
  }

  /** Whether this is the name of an image of this disk, and of no other. */
  owns(file: string): boolean {
    return file.startsWith(`${this.folder}/`) || file.startsWith(join(this.#vm.dir, 'disks', `d${this.id}-`));
  }

  /** Another client takes a snapshot between two jobs, so that there is a chain. */
  async snapshot(name: string): Promise<void> {
    const { inserted } = await this.#admin.block(this.ref.disk);
    const snapshot = {
      'node-name': present(inserted)['node-name'],
      'snapshot-file': join(this.folder, `${name}-snap.qcow2`),
      'snapshot-node-name': `${name}-snap`,
      format: 'qcow2',
    };
    await this.#turns.apart(async () => await this.#admin.execute('blockdev-snapshot-sync', snapshot));
  }

  /** The writer stops after a flush: all that it wrote is acknowledged. */
  async rest(acked: AckedByTime): Promise<void> {
    const { rests } = acked;
    await this.#console.run(async () => await this.#vm.command(`set d${this.id} mode=idle`));
    await eventually(`disk ${this.id} is at rest`, () => (acked.rests > rests ? true : undefined), WORK_MS);
  }

  async goOn(): Promise<void> {
    await this.#console.run(async () => await this.#vm.command(`set d${this.id} mode=rand`));
  }

  /** Waits until this many more operations are on disk. */
  async work(acked: AckedByTime, operations: number): Promise<void> {
    const goal = acked.sequence + operations;
    const more = eventually(`disk ${this.id} writes`, () => (acked.sequence >= goal ? true : undefined), WORK_MS);
    await more.catch(async (cause: unknown) => {
      // Its error describes the state of QEMU and of the guest.
      await this.#vm.work(this.id, operations, { timeoutMs: 1000 });
      throw cause;
    });
  }
}
