/**
 * Many tests begin with the same chain of images, which takes two QEMU tools an image to make. In a run it is made
 * once; the next ones are copies of it, in which the backing files get their new names.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import type { ChainImage, ChainOptions } from '../real-qemu/qemu.ts';

/** The folder of the templates during a run: bundle.ts makes it. Without the folder each chain is made. */
export const CHAINS = 'BLOCKJOBD_CHAINS';
/** A larger one is not worth keeping. */
const MOST_BYTES = 64 << 20;
/** The list of images, with their names in the template. */
const LIST = 'chain.json';

/** The chain that `make` makes in this folder. */
export async function likeOneBefore(
  dir: string,
  options: ChainOptions,
  make: () => Promise<ChainImage[]>,
): Promise<ChainImage[]> {
  const folder = process.env[CHAINS];
  // No copy of a raw image has exactly its holes.
  const isPlain = options.sizeBytes <= MOST_BYTES && !options.formats.includes('raw');
  if (folder === undefined || !isPlain) return await make();
  // A name of the same length fits in the place of the earlier one.
  const key = JSON.stringify([Buffer.byteLength(dir), options]);
  const template = join(folder, createHash('sha256').update(key).digest('hex'));
  const list = await readFile(join(template, LIST), 'utf8').catch(() => undefined);
  if (list !== undefined) return await copyTo(dir, template, JSON.parse(list) as ChainImage[], options);
  const chain = await make();
  await keep(chain, template, folder);
  return chain;
}

async function keep(chain: readonly ChainImage[], template: string, folder: string): Promise<void> {
  const made = await mkdtemp(join(folder, 'new-'));
  await copy(
    chain.map(({ path }) => path),
    made,
  );
  await writeFile(join(made, LIST), JSON.stringify(chain));
  // Another process may have been first.
  await rename(made, template).catch(async () => await rm(made, { recursive: true }));
}

async function copyTo(
  dir: string,
  template: string,
  before: readonly ChainImage[],
  { relative = false }: ChainOptions,
): Promise<ChainImage[]> {
  const chain = before.map(({ format, path }) => ({ format, path: join(dir, basename(path)) }));
  await copy(
    chain.map(({ path }) => join(template, basename(path))),
    dir,
  );
  for (const [layer, { path }] of chain.entries()) {
    const below = chain[layer - 1];
    if (below !== undefined && !relative) await nameBackingFile(path, below.path);
  }
  return chain;
}

/** Each byte is the same as in QEMU's image. */
async function copy(files: readonly string[], to: string): Promise<void> {
  await promisify(execFile)('cp', ['--sparse=never', ...files, to]);
}

/** In the header of a qcow2 image, in the place of a name of that length. */
async function nameBackingFile(path: string, name: string): Promise<void> {
  await using image = await open(path, 'r+');
  const { buffer: header } = await image.read(Buffer.alloc(20), 0, 20, 0);
  const bytes = Buffer.from(name);
  if (header.readUInt32BE(16) !== bytes.length) throw new Error(`${path} has another backing file`);
  await image.write(bytes, 0, bytes.length, Number(header.readBigUInt64BE(8)));
}
