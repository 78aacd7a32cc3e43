/** Whether a copy fits into its destination: an estimate from what QEMU says of the copied images. Changes nothing. */
import { dirname } from 'node:path';
import type { BlockGraph, Image } from '../../core/disk/chain.ts';
import { SECTOR_BYTES } from '../../core/disk/sectors.ts';
import { fail } from '../../core/errors.ts';
import type { Job } from '../../core/job/job.ts';
import {
  type CopiedImage,
  restOfCopy,
  spaceBesides,
  spaceForStart,
  spaceOfCopy,
  spaceOfWhole,
  type TakenImage,
} from '../../core/job/space.ts';
import type { SpaceEstimate } from '../../core/job/space-told.ts';
import type { CopyDestination, CopySource } from '../../core/plans/copy-ends.ts';
import { lookAt, withOurErrors } from '../files/place.ts';
import { allocatedBytes as allocatedNow, freeBytes } from '../files/room.ts';
import { stat } from '../host/disk-files.ts';
import type { Site } from './site.ts';

/** Undefined if it cannot be known: an export, a raw device, or an image on a device that has data already. */
export async function estimateSpace(
  destination: CopyDestination,
  source: CopySource,
  { disk, graph, beside }: Pick<Site, 'disk' | 'graph' | 'beside'>,
): Promise<SpaceEstimate | undefined> {
  const { topOnly, virtualSizeBytes, clusterSizeBytes, extendedL2 } = source;
  const found = await roomFor(destination, beside);
  if (found === undefined) return undefined;
  const image: TakenImage = {
    format: destination.format,
    virtualSizeBytes,
    clusterSizeBytes,
    extendedL2,
    encrypted: destination.encryption !== undefined,
  };
  const copied = topOnly ? disk.chain.slice(0, 1) : disk.chain;
  const copyBytes = spaceOfCopy(
    copied.map((one) => copiedImage(one, graph)),
    image,
  );
  const wholeBytes = spaceOfWhole(image);
  const neededBytes = spaceBesides(copyBytes, { allocatedBytes: found.allocatedBytes, wholeBytes, topOnly });
  return { ...found, neededBytes, wholeBytes };
}

/** Throws SPACE_LOW. */
export function refuseWithoutSpace(path: string, estimate: SpaceEstimate | undefined): void {
  if (estimate === undefined) return;
  const { freeBytes: free } = estimate;
  const neededBytes = spaceForStart(estimate);
  if (neededBytes > free) fail('SPACE_LOW', { path, freeBytes: free, neededBytes, what: 'the copy' });
}

/** Only of a file QEMU says how much it has allocated. */
function copiedImage({ allocatedBytes, storage, virtualSizeBytes }: Image, { nodes }: BlockGraph): CopiedImage {
  const storageBytes = nodes.get(storage?.node ?? '')?.virtualSizeBytes ?? virtualSizeBytes;
  return { allocatedBytes: storage?.driver === 'file' ? allocatedBytes : undefined, storageBytes };
}

async function roomFor(
  { storage, make }: CopyDestination,
  beside: readonly Job[],
): Promise<Pick<SpaceEstimate, 'freeBytes' | 'allocatedBytes'> | undefined> {
  if (storage.driver === 'nbd') return undefined;
  const path = storage.filename;
  return await withOurErrors(path, async () => {
    if (storage.driver === 'host_device') {
      return make?.new === 'HEADER' ? { freeBytes: (await lookAt(path)).sizeBytes, allocatedBytes: 0 } : undefined;
    }
    const allocated = make === undefined ? Number((await stat(path)).blocks) * SECTOR_BYTES : 0;
    const folder = dirname(path);
    const [free, others] = await Promise.all([freeBytes(folder), restsIn(folder, beside)]);
    return { freeBytes: Math.max(0, free - others), allocatedBytes: allocated };
  });
}

/** The bytes that running copies will still take in the file system of this folder. */
async function restsIn(folder: string, beside: readonly Job[]): Promise<number> {
  const device = String((await stat(folder)).dev);
  const rests = beside.map(async (job) => {
    const file = job.destinationFile;
    return file?.device === device ? restOfCopy(job, (await allocatedNow(file)) ?? 0) : 0;
  });
  return (await Promise.all(rests)).reduce((sum, rest) => sum + rest, 0);
}
