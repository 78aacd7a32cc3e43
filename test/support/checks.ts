/* oxlint-disable vitest/no-standalone-expect */
/**
 * Checks that do not use the service: QEMU's graph and jobs, folders, journals, and the writes of a guest. None of them
 * uses code of the product.
 */
import { createHash } from 'node:crypto';
import { cp, lstat, open, readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expect } from 'vitest';
import {
  type Admin,
  type ChainImage,
  compareImages,
  type ImageFormat,
  imageInfo,
  makeChain,
  qemuImgCheck,
  run,
} from './real-qemu/qemu.ts';
import type { Service } from './service/service.ts';

/** The value; throws if it is undefined. */
export function present<T>(value: T | undefined, what = 'a value'): T {
  if (value === undefined) throw new Error(`${what} is missing`);
  return value;
}

/** Asks until the answer suits, as long as it may take. For changes that are announced by no event. */
export async function eventually<T>(
  what: string,
  ask: () => T | undefined | Promise<T | undefined>,
  timeoutMs = 60_000,
): Promise<T> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > until) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** QEMU arguments for a monitor in the service's folder of sockets. */
export function monitorIn(folder: string, name: string): string[] {
  const socket = `socket,id=service,path=${join(folder, name)}.sock,server=on,wait=off`;
  return ['-chardev', socket, '-mon', 'chardev=service,mode=control'];
}

// ---- QEMU -----------------------------------------------------------------------------------------------

/** QEMU's block graph and jobs, in a stable order. */
export interface GraphView {
  /** `name driver file`. */
  readonly nodes: readonly string[];
  /** `parent --name--> child`; a parent may be a device or a job. */
  readonly edges: readonly string[];
  readonly jobs: readonly string[];
  /** The node that each device is on, by device. */
  readonly devices: Readonly<Record<string, string>>;
}

interface Graph {
  nodes: { id: number; type: string; name: string }[];
  edges: { parent: number; child: number; name: string }[];
}

export async function graphOf(admin: Admin): Promise<GraphView> {
  const nodes = await admin.execute<{ 'node-name': string; drv: string; file: string }[]>('query-named-block-nodes', {
    flat: true,
  });
  const graph = await admin.execute<Graph>('x-debug-query-block-graph');
  const jobs = await admin.execute<{ id: string; type: string; status: string }[]>('query-jobs');
  const names = new Map(graph.nodes.map(({ id, type, name }) => [id, `${type} ${name}`]));
  const name = (id: number): string => present(names.get(id), 'an end of an edge');
  const roots = graph.edges.filter(({ parent }) => name(parent).startsWith('block-backend '));
  return {
    nodes: nodes.map((node) => `${node['node-name']} ${node.drv} ${node.file}`).toSorted(),
    edges: graph.edges.map((edge) => `${name(edge.parent)} --${edge.name}--> ${name(edge.child)}`).toSorted(),
    jobs: jobs.map(({ id, type, status }) => `${id} ${type} ${status}`).toSorted(),
    devices: Object.fromEntries(
      roots.map(({ parent, child }) => [name(parent).slice(14), name(child).replace(/^\S+ /, '')]),
    ),
  };
}

/** The name of a node of GraphView. */
export function labelOf(node: string): string {
  return node.split(' ')[0] ?? '';
}

/** No job, no filter, and of this job's nodes only those in `inUse`. */
export function expectClean(graph: GraphView, job: string, inUse: readonly string[] = []): void {
  expect(graph.jobs).toEqual([]);
  expect(graph.edges.filter((edge) => edge.startsWith('block-job '))).toEqual([]);
  expect(graph.nodes.filter((node) => / (mirror_top|commit_top|copy-on-read) /.test(node))).toEqual([]);
  const ours = graph.nodes.map(labelOf).filter((node) => node.startsWith(job));
  expect(ours).toEqual(inUse.toSorted());
}

// ---- files ----------------------------------------------------------------------------------------------

/** Every file below the folder, with all properties that a change would change. */
export async function listing(folder: string): Promise<readonly string[]> {
  const names = ['', ...(await readdir(folder, { recursive: true }))];
  const lines = names.map(async (name) => {
    const path = join(folder, name);
    const { mode, ino, size, mtimeNs, uid, gid } = await lstat(path, { bigint: true });
    return `${name} ${mode.toString(8)} ${ino} ${size} ${mtimeNs} ${uid}:${gid}`;
  });
  return (await Promise.all(lines)).toSorted();
}

export async function hashOf(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

/** A chain, made once and copied for each test; its backing files are named relative to their folder. */
export class ChainTemplate {
  readonly #images: readonly ChainImage[];

  private constructor(images: readonly ChainImage[]) {
    this.#images = images;
  }

  static async make(folder: string, prefix: string, formats: readonly ImageFormat[], sizeBytes: number) {
    return new ChainTemplate(await makeChain(folder, { formats, sizeBytes, prefix, relative: true }));
  }

  async copyTo(folder: string): Promise<ChainImage[]> {
    return await Promise.all(
      this.#images.map(async ({ format, path }) => {
        const copy = join(folder, basename(path));
        await cp(path, copy);
        return { format, path: copy };
      }),
    );
  }
}

/**
 * A journal keeps its promises: only its owner can read it, every line is whole, revisions are 1, 2, 3 … up to `last`.
 */
export async function journalEntries(stateFolder: string, job: string, last: bigint): Promise<JournalLine[]> {
  const path = join(stateFolder, 'jobs', `${job}.jsonl`);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  const text = await readFile(path, 'utf8');
  expect(text.endsWith('\n')).toBe(true);
  const entries = text
    .trimEnd()
    .split('\n')
    .map((line): JournalLine => JSON.parse(line.slice(9)));
  expect(entries.map(({ revision }) => revision)).toEqual(entries.map((_, index) => index + 1));
  expect(entries.at(-1)?.revision).toBe(Number(last));
  return entries;
}

export interface JournalLine {
  readonly revision: number;
  readonly entry: string;
  readonly step?: string;
}

// ---- the writes of the guest ----------------------------------------------------------------------------

const SECTOR = 512;

/** The expected contents of the guest's disk: the image's bytes before, and every write since. */
export class GuestDisk {
  readonly #admin: Admin;
  readonly #device: string;
  readonly #oracle: string;
  readonly sizeBytes: number;

  private constructor(admin: Admin, device: string, oracle: string, sizeBytes: number) {
    this.#admin = admin;
    this.#device = device;
    this.#oracle = oracle;
    this.sizeBytes = sizeBytes;
  }

  /** `image`: the top of the device's chain, before any write to it. */
  static async of(admin: Admin, device: string, image: ChainImage, folder: string): Promise<GuestDisk> {
    const oracle = join(folder, `oracle-${device}`);
    const [{ 'virtual-size': sizeBytes }] = await Promise.all([
      imageInfo(image.path, image.format),
      run('qemu-img', ['convert', '-U', '-f', image.format, '-O', 'raw', image.path, oracle]),
    ]);
    return new GuestDisk(admin, device, oracle, sizeBytes);
  }

  /**
   * Writes as the guest would: to the first and the last sector, over existing data, to new places, and some zeroes.
   * Different bytes for each `round`.
   */
  async write(round: number): Promise<void> {
    const sectors = Math.floor(this.sizeBytes / SECTOR);
    const some = Math.max(1, Math.min(300, Math.floor(sectors / 16)));
    const places: readonly [sector: number, count: number, pattern: number][] = [
      [round, 1, 0xa0 + round],
      [sectors - 1, 1, 0xb0 + round],
      [Math.floor((sectors * (3 + round)) / 16), some, 0xc0 + round],
      [Math.floor((sectors * 5) / 8) + round * some, some, 0xd0 + round],
      [Math.floor((sectors * (9 + round)) / 16), some, 0],
    ];
    await using oracle = await open(this.#oracle, 'r+');
    for (const [sector, count, pattern] of places) {
      const bytes = Math.min(count, sectors - sector) * SECTOR;
      if (sector < 0 || bytes <= 0) continue;
      const how = pattern === 0 ? '-z' : `-P ${pattern}`;
      await this.#admin.hmpQemuIo(this.#device, `write ${how} ${sector * SECTOR} ${bytes}`);
      await oracle.write(Buffer.alloc(bytes, pattern), 0, bytes, sector * SECTOR);
    }
  }

  /** Checks that an image has exactly the expected contents; `live`: QEMU has it open, and the guest is stopped. */
  async expectIn(path: string, format: ImageFormat, { live = false } = {}): Promise<void> {
    expect((await imageInfo(path, format))['virtual-size']).toBe(this.sizeBytes);
    expect(await compareImages(this.#oracle, 'raw', path, format, { live })).toMatchObject({
      identical: true,
    });
    if (format === 'qcow2' && !live) expect(await qemuImgCheck(path)).toMatchObject({ ok: true });
  }

  async expectNotIn(path: string, format: ImageFormat): Promise<void> {
    expect((await compareImages(this.#oracle, 'raw', path, format)).identical).toBe(false);
  }
}

// ---- the service ----------------------------------------------------------------------------------------

/** The lines of the service's log that report a bug or a loss. */
export function complaints(service: Service): readonly string[] {
  return service.log.split('\n').filter((line) => /"level":[56]0\b/.test(line));
}

/** The service still runs, without an error in its log. */
export function expectWell(service: Service, but?: RegExp): void {
  expect(service.alive).toBe(true);
  expect(complaints(service).filter((line) => but?.test(line) !== true)).toEqual([]);
}
