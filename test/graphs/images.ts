/** The images of a graph, made by a plan, and the contents of each. */
import { mkdir, open, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { LoopDevice } from '../support/images/loop-device.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { Contents, type Extent } from './contents.ts';
import type { ImagePlan } from './graph-plan.ts';

const MIB = 1 << 20;

export interface Image {
  readonly plan: ImagePlan;
  /** The path that QEMU gets: a file, or a device. */
  readonly path: string;
  /** All files that hold a part of it. */
  readonly files: readonly string[];
  /** The storage below the format's node, without layers. */
  readonly storage: Readonly<Record<string, unknown>>;
  /** Its contents with the images below it, when it was made. */
  readonly shows: Contents;
  readonly snapshot: Contents | undefined;
}

/** The image as a program sees it that opens it by its header. */
export function cold({
  plan,
  storage,
}: Pick<Image, 'storage'> & { plan: Pick<ImagePlan, 'format'> & Partial<ImagePlan> }): object {
  const { format, part, sizeBytes } = plan;
  return { driver: format, ...(part && { offset: part.before, size: sizeBytes }), file: storage };
}

/** A name as in headers. A name with a colon would be a protocol. */
export function relativeName(from: string, to: string): string {
  const name = relative(dirname(from), to);
  return name.includes(':') ? `./${name}` : name;
}

export async function makeImages(plans: readonly ImagePlan[], folder: string, devices: DisposableStack) {
  const images: Image[] = [];
  for (const plan of plans) images.push(await makeImage(plan, folder, images.at(-1), devices));
  return images;
}

async function makeImage(plan: ImagePlan, folder: string, below: Image | undefined, devices: DisposableStack) {
  const file = join(folder, plan.folder, plan.name);
  await mkdir(dirname(file), { recursive: true });
  let path = file;
  if (plan.on === 'loop') {
    await using made = await open(file, 'wx');
    await made.truncate(plan.format === 'raw' ? plan.sizeBytes : 24 * MIB);
    path = devices.use(await LoopDevice.over(file)).path;
  }
  const storage = { driver: plan.on === 'loop' ? 'host_device' : 'file', filename: path };
  const data = plan.dataFile === 'none' ? [] : [`${file}.data`];
  await create(plan, path, below, data);
  let shows = below === undefined ? Contents.empty(plan.sizeBytes) : below.shows.resized(plan.sizeBytes);
  const image = { plan, path, storage, files: [file, ...data], shows, snapshot: undefined };
  const half = plan.hasSnapshot ? Math.floor(plan.writes.length / 2) : plan.writes.length;
  await fill(image, plan.writes.slice(0, half));
  if (!plan.hasSnapshot) return image;
  await run('qemu-img', ['snapshot', '-c', 'monday', path]);
  const snapshot = shows.copy();
  await fill(image, plan.writes.slice(half));
  return { ...image, snapshot };
}

async function create(plan: ImagePlan, path: string, below: Image | undefined, data: readonly string[]): Promise<void> {
  const { format, sizeBytes, part } = plan;
  if (format === 'raw') {
    if (plan.on === 'loop') return;
    const bytes = Buffer.alloc((part?.before ?? 0) + sizeBytes + (part?.behind ?? 0), part && 0xee);
    if (part !== undefined) bytes.fill(0, part.before, part.before + sizeBytes);
    await writeFile(path, bytes, { flag: 'wx' });
    return;
  }
  const options = [...plan.options];
  if (data[0] !== undefined) options.push(`data_file=${comma(data[0])}`);
  if (plan.dataFile === 'raw') options.push('data_file_raw=on');
  const backing = below === undefined ? [] : ['-u', '-F', below.plan.format, '-b', nameIn(plan, path, below)];
  const args = [
    'create',
    '-q',
    '-f',
    format,
    ...options.flatMap((one) => ['-o', one]),
    ...backing,
    path,
    String(sizeBytes),
  ];
  await run('qemu-img', args);
  if (plan.hasBitmap) await run('qemu-img', ['bitmap', '--add', '-f', 'qcow2', path, 'since']);
}

/** A plain name cannot stand for a part. */
export function nameIn(plan: ImagePlan, path: string, below: Image): string {
  if (below.plan.part !== undefined) return `json:${JSON.stringify(cold(below))}`;
  // A device has no file beside it.
  if (path.startsWith('/dev/') || below.plan.on === 'loop') return below.path;
  const isTooLong = Buffer.byteLength(below.path) >= Math.min(1023, clusterBytes(plan) / 2);
  return plan.names === 'relative' || isTooLong ? relativeName(path, below.path) : below.path;
}

async function fill(image: Pick<Image, 'plan' | 'storage' | 'shows'>, writes: readonly Extent[]): Promise<void> {
  const { plan, shows } = image;
  const pieces = plan.isCompressed ? inClusters(writes, plan) : writes;
  const commands = pieces.map(({ at, bytes, byte }) => {
    shows.write({ at, bytes, byte });
    if (plan.isCompressed) return `write -c -P ${byte} ${at} ${bytes}`;
    return byte === 0 ? `write -z ${at} ${bytes}` : `write -P ${byte} ${at} ${bytes}`;
  });
  const options = `json:${JSON.stringify(cold(image))}`;
  await run('qemu-io', [...commands.flatMap((command) => ['-c', command]), options]);
}

/** Only whole clusters, and the last piece, are compressed, and each of them once. */
function inClusters(writes: readonly Extent[], plan: ImagePlan): readonly Extent[] {
  const { sizeBytes } = plan;
  const cluster = clusterBytes(plan);
  const pieces = new Map<number, Extent>();
  for (const { at, byte } of writes) {
    const from = Math.floor(at / cluster) * cluster;
    pieces.set(from, { at: from, bytes: Math.min(cluster, sizeBytes - from), byte });
  }
  return [...pieces.values()];
}

function clusterBytes({ options }: ImagePlan): number {
  return Number(options.find((one) => one.startsWith('cluster_size='))?.slice('cluster_size='.length));
}

function comma(value: string): string {
  return value.replaceAll(',', ',,');
}
