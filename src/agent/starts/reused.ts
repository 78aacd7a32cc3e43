/** Whether an existing destination of a shallow copy looks as it must, by cheap signs. Refuses one that does not. */
import type { Image } from '../../core/disk/chain.ts';
import { wholeSectors } from '../../core/disk/sectors.ts';
import { fail } from '../../core/errors.ts';
import type { Reused } from '../../core/job/journal-entry.ts';
import type { KnownFile } from '../../core/job/step.ts';
import type { JobOptions } from '../../core/job-options.ts';
import type { Backing, CopyDestination } from '../../core/plans/copy-ends.ts';
import { knownSource } from '../files/known-file.ts';
import { isZero, lookAt, readHeader } from '../files/place.ts';
import { stat } from '../host/disk-files.ts';
import type { Site } from './site.ts';

/** The unit of stat. */
const BLOCK_BYTES = 512n;
/** QEMU writes so many zeroes into a raw file that it makes, to find the alignment of direct writes. */
const FIRST_BYTES = 4096;
/** QEMU opens no image with more (block/qcow2.h, QCOW_MAX_L1_SIZE). */
const MOST_TABLE_BYTES = 32 * 1024 * 1024;

/** Undefined if nothing is taken over from it. Throws REUSED_UNLIKE. */
export async function lookAtReused(
  path: string,
  { storage, format, make, backing }: CopyDestination,
  { verifyReused }: Pick<JobOptions, 'verifyReused'>,
  site: Site,
): Promise<Reused | undefined> {
  const [, below] = site.disk.chain;
  if (below === undefined || make !== undefined) return undefined;
  const word: Reused = { by: 'WORD', path, backing: below.path };
  // Only its server knows the data of an export, and each block of a device has data.
  const isEmpty =
    storage.driver !== 'nbd' &&
    (await holdsNothing(storage.filename, format === 'QCOW2' ? 'qcow2' : 'raw', storage.file));
  const other: Reused = verifyReused === true ? { ...word, by: 'COMPARED' } : word;
  if (!isEmpty) return other;
  const unlike = (why: string) => fail('REUSED_UNLIKE', { path, backing: below.path, why });
  if (backing?.is === 'NODE' && backing.node === below.node) {
    // The destination's backing file is found by its name next time: that has to be the file that QEMU has.
    return (await knownSource(below, site.machine)) === undefined ? other : { ...word, by: 'SAME_FILE' };
  }
  // A complete comparison needs no guess.
  if (verifyReused === true) return other;
  if (backing === undefined) {
    if (await areEmpty(site.disk.chain.slice(1))) return word;
    return unlike(`it is ${format === 'RAW' ? 'all but empty' : 'empty'}, and has no backing file`);
  }
  if (backing.is === 'IMAGE') {
    const bytes = await sizeOf(backing);
    if (bytes === undefined || bytes === below.virtualSizeBytes) return word;
    return unlike(`its backing file ${backing.path} has ${bytes} bytes, and that image ${below.virtualSizeBytes}`);
  }
  const at = site.disk.chain.findIndex(({ node }) => node === backing.node);
  if (await areEmpty(site.disk.chain.slice(1, at))) return word;
  return unlike(`it is empty, and its backing file is ${site.disk.chain[at]?.path}, which is below that image`);
}

async function areEmpty(images: readonly Image[]): Promise<boolean> {
  const empty = images.map(
    async ({ path, format, layers, isPart, dataFile }) =>
      path.startsWith('/') && layers.length === 0 && !isPart && dataFile === '' && (await holdsNothing(path, format)),
  );
  return (await Promise.all(empty)).every(Boolean);
}

/** Proved for a qcow2, and likely for a raw file. False if it may have data. */
export async function holdsNothing(path: string, format: string, file?: KnownFile): Promise<boolean> {
  if (format === 'qcow2') {
    const header = await readHeader(path, file);
    if (header.format !== 'QCOW2' || header.tables.bytes > MOST_TABLE_BYTES) return false;
    return await isZero(path, header.tables, file);
  }
  const there = await stat(path).catch(() => undefined);
  if (format !== 'raw' || there?.isFile() !== true || there.blocks * BLOCK_BYTES > FIRST_BYTES) return false;
  return await isZero(path, { offset: 0, bytes: Math.min(Number(there.size), FIRST_BYTES) }, file);
}

/** As the guest would see it; undefined for formats whose headers are not read here. */
async function sizeOf({ path, driver, file }: Extract<Backing, { is: 'IMAGE' }>): Promise<number | undefined> {
  if (driver === 'raw') return wholeSectors((await lookAt(path)).sizeBytes);
  if (driver !== 'qcow2') return undefined;
  const header = await readHeader(path, file);
  return header.format === 'QCOW2' ? header.virtualSizeBytes : undefined;
}
