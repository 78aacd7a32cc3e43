/** A QEMU on a graph. The test is its guest, so each written byte is known. */
import { monitorIn } from '../support/checks.ts';
import type { Random } from '../support/random.ts';
import { type Qemu, startQemu } from '../support/real-qemu/qemu.ts';
import type { Contents, Extent } from './contents.ts';
import { extentIn, type Filter, type GraphPlan, type ImagePlan } from './graph-plan.ts';
import { cold, type Image } from './images.ts';

/** Its one disk. */
export const DISK = 'disk0';
const GUEST = `/machine/peripheral/${DISK}/virtio-backend`;
const LIMIT = ['-object', '{"qom-type":"throttle-group","id":"limit"}'] as const;

export interface Where {
  readonly name: string;
  /** For a monitor that the service finds. */
  readonly sockets: string;
  /** The command that starts QEMU, as in a mount namespace of its own. */
  readonly under: readonly string[];
}

export async function startVm(
  plan: GraphPlan,
  images: readonly Image[],
  { name, sockets, under }: Where,
): Promise<Qemu> {
  const back = plan.style === 'drive' ? driveOf(plan, images) : nodesOf(plan, images).flatMap(blockdev);
  const share = plan.isShared ? ',share-rw=on' : '';
  return await startQemu({
    style: plan.style,
    name,
    disks: [],
    under,
    extraArgs: [
      // Nothing runs in it: the test writes.
      '-S',
      ...monitorIn(sockets, name),
      ...LIMIT,
      ...back,
      '-device',
      `virtio-blk-pci,id=${DISK},drive=top${share}`,
    ],
  });
}

/** The next start, by a person who knows only the image and its format. */
export async function startAgain(image: object, name: string, under: readonly string[]): Promise<Qemu> {
  return await startQemu({
    style: 'blockdev',
    name,
    disks: [],
    under,
    extraArgs: ['-S', ...blockdev({ ...image, 'node-name': 'top' }), '-device', `virtio-blk-pci,id=${DISK},drive=top`],
  });
}

function blockdev(node: object): string[] {
  return ['-blockdev', JSON.stringify(node)];
}

function driveOf({ discard, detectZeroes }: GraphPlan, images: readonly Image[]): readonly string[] {
  const top = images.at(-1);
  if (top === undefined) throw new Error('no image');
  const file = top.path.replaceAll(',', ',,');
  const options = `file=${file},format=${top.plan.format},discard=${discard},detect-zeroes=${detectZeroes}`;
  return ['-drive', `if=none,id=top,${options}`];
}

function nodesOf(plan: GraphPlan, images: readonly Image[]): readonly object[] {
  const named = plan.isExplicit ? images : images.slice(-1);
  const nodes = named.flatMap((image, at) => {
    const isTop = at === named.length - 1;
    const node = cold(image) as { file: object };
    const own = { 'auto-read-only': true, discard: 'unmap', 'node-name': `s${at}` };
    const storage = { ...image.storage, ...own };
    const between = layer(image.plan.layer, `l${at}`, `s${at}`);
    return [
      storage,
      ...between,
      {
        ...node,
        file: between.length > 0 ? `l${at}` : `s${at}`,
        'node-name': isTop && plan.filter === undefined ? 'top' : `n${at}`,
        'read-only': !isTop,
        ...(isTop ? { discard: plan.discard, 'detect-zeroes': plan.detectZeroes } : {}),
        ...(plan.isExplicit && at > 0 ? { backing: `n${at - 1}` } : {}),
      },
    ];
  });
  return [...nodes, ...layer(plan.filter, 'top', `n${named.length - 1}`)];
}

function layer(filter: Filter | undefined, name: string, file: string): readonly object[] {
  if (filter === undefined) return [];
  const options = filter === 'throttle' ? { 'throttle-group': 'limit' } : {};
  const child = filter === 'blkdebug' ? { image: file } : { file };
  return [{ driver: filter, 'node-name': name, ...options, ...child }];
}

/** The guest: it writes to its disk, and the new contents are recorded. */
export class Guest {
  readonly #qemu: Qemu;
  readonly #random: Random;
  readonly #mayDiscard: boolean;
  readonly shows: Contents;

  constructor(qemu: Qemu, random: Random, { shows, mayDiscard }: { shows: Contents; mayDiscard: boolean }) {
    this.#qemu = qemu;
    this.#random = random;
    this.#mayDiscard = mayDiscard;
    this.shows = shows;
  }

  async write(): Promise<void> {
    for (let count = 1 + this.#random.below(3); count > 0; count -= 1) {
      const extent = extentIn(this.#random, this.shows.sizeBytes);
      const how = extent.byte === 0 ? this.#random.of(['-z', '-z -u', '-P 0']) : `-P ${extent.byte}`;
      if (extent.bytes === 0) continue;
      await this.#io(`write ${how} ${extent.at} ${extent.bytes}`);
      this.shows.write(extent);
      // Discarded zeroes show zeroes, whatever happens to the clusters.
      if (this.#mayDiscard && extent.byte === 0 && this.#random.chance(0.3))
        await this.#io(`discard ${extent.at} ${extent.bytes}`);
    }
    // Data that a guest has not flushed may be lost.
    await this.#io('flush');
  }

  /** Reads its data back, in some places. */
  async reads(count: number): Promise<void> {
    for (let left = count; left > 0; left -= 1) await this.#read(this.shows.someExtent(this.#random));
  }

  async #read({ at, bytes, byte }: Extent): Promise<void> {
    if (bytes > 0) await this.#io(`read -P ${byte} ${at} ${bytes}`);
  }

  async #io(command: string): Promise<void> {
    await this.#qemu.admin.hmpQemuIo(GUEST, command);
  }
}

/** The images of a disk that a plan had, for a report of what was tried. */
export function told({ format, sizeBytes, on, layer: between, part, dataFile, options }: ImagePlan): string {
  const more = [on === 'loop' && 'loop', between, part && 'part', dataFile !== 'none' && `data file`, ...options];
  return [format, sizeBytes, ...more.filter((word) => typeof word === 'string')].join(' ');
}
