/**
 * A destination that is there, of a shallow copy: does it look like what it has to be? What is cheap to see is seen; what
 * contradicts the caller is refused.
 */
import { constants } from 'node:fs';
import type { Image } from '../core/chain.ts';
import { fail } from '../core/errors.ts';
import type { Qcow2Header } from '../core/image-header.ts';
import type { Backing, CopyDestination } from '../core/plans/copy.ts';
import type { Reused } from '../core/reuse.ts';
import { open, stat } from './disk-files.ts';
import { knownSource } from './known-file.ts';
import { inWords, lookAt, readHeader } from './place.ts';
import type { Site } from './site.ts';

const SECTOR_BYTES = 512;
/** What stat counts. */
const BLOCK_BYTES = 512n;
/** QEMU writes so many zeroes into a raw file that it makes, to find out how direct writes must be aligned. */
const FIRST_BYTES = 4096;
const CHUNK_BYTES = 1024 * 1024;
/** QEMU opens none with more (block/qcow2.h, QCOW_MAX_L1_SIZE). */
const MOST_TABLE_BYTES = 32 * 1024 * 1024;

/** Undefined: nothing is taken over from what is there. Throws REUSED_UNLIKE. */
export async function lookAtReused(
  path: string,
  { storage, format, make, backing }: CopyDestination,
  site: Site,
): Promise<Reused | undefined> {
  const [, below] = site.disk.chain;
  if (below === undefined || make !== undefined) return undefined;
  const word: Reused = { by: 'WORD', path, backing: below.path };
  // Only its server knows what an export holds, and each block of a device holds something.
  const isEmpty =
    storage.driver !== 'nbd' && (await holdsNothing(storage.filename, format === 'QCOW2' ? 'qcow2' : 'raw'));
  if (!isEmpty) return word;
  const unlike = (why: string) => fail('REUSED_UNLIKE', { path, backing: below.path, why });
  if (backing === undefined) {
    if (await areEmpty(site.disk.chain.slice(1))) return word;
    return unlike(`it is ${format === 'RAW' ? 'all but empty' : 'empty'}, and has no backing file`);
  }
  if (backing.is === 'IMAGE') {
    const bytes = await sizeOf(backing);
    if (bytes === undefined || bytes === below.virtualSizeBytes) return word;
    return unlike(`its backing file ${backing.path} has ${bytes} bytes, and that image ${below.virtualSizeBytes}`);
  }
  if (backing.node !== below.node) {
    const at = site.disk.chain.findIndex(({ node }) => node === backing.node);
    const skipped = site.disk.chain.slice(1, at);
    if (await areEmpty(skipped)) return word;
    return unlike(`it is empty, and its backing file is ${site.disk.chain[at]?.path}, which is below that image`);
  }
  // Who opens the destination next finds its backing file by name: that has to be the file that QEMU has.
  const isProved = (await knownSource(below, site.machine)) !== undefined;
  return isProved ? { ...word, by: 'SAME_FILE' } : word;
}

async function areEmpty(images: readonly Image[]): Promise<boolean> {
  const empty = images.map(
    async ({ path, format, layers, isPart, dataFile }) =>
      path.startsWith('/') && layers.length === 0 && !isPart && dataFile === '' && (await holdsNothing(path, format)),
  );
  return (await Promise.all(empty)).every(Boolean);
}

/** Of a qcow2 it is proved, and of a raw file likely. False: it may hold something. */
export async function holdsNothing(path: string, format: string): Promise<boolean> {
  if (format === 'qcow2') {
    const header = await readHeader(path);
    return header.format === 'QCOW2' && (await isZero(path, header.tables));
  }
  const there = await stat(path).catch(() => undefined);
  if (format !== 'raw' || there?.isFile() !== true || there.blocks * BLOCK_BYTES > FIRST_BYTES) return false;
  return await isZero(path, { offset: 0, bytes: Math.min(Number(there.size), FIRST_BYTES) });
}

async function isZero(path: string, { offset, bytes }: Qcow2Header['tables']): Promise<boolean> {
  if (bytes > MOST_TABLE_BYTES) return false;
  const handle = await inWords(path, async () => await open(path, constants.O_RDONLY));
  try {
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (let at = 0; at < bytes; ) {
      const wanted = Math.min(buffer.length, bytes - at);
      const { bytesRead } = await handle.read(buffer, 0, wanted, offset + at);
      // A table that is cut off says nothing.
      if (bytesRead === 0 || buffer.subarray(0, bytesRead).some((byte) => byte !== 0)) return false;
      at += bytesRead;
    }
    return true;
  } finally {
    await handle.close();
  }
}

/** As the guest would see it; undefined for formats whose headers are not read here. */
async function sizeOf({ path, driver }: Extract<Backing, { is: 'IMAGE' }>): Promise<number | undefined> {
  if (driver === 'raw') return Math.ceil((await lookAt(path)).sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  if (driver !== 'qcow2') return undefined;
  const header = await readHeader(path);
  return header.format === 'QCOW2' ? header.virtualSizeBytes : undefined;
}
