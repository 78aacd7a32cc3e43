/** The space at the destination of a copy: an estimate of the bytes that it takes, and the bytes that must be free. */
import { DEFAULT_CLUSTER_BYTES } from '../disk/image-header.ts';
import type { Job } from './job.ts';
import type { SpaceEstimate, SpaceLevel } from './space-told.ts';

/** Kept free, so that a copy is paused before QEMU, or another program, gets an error. */
export const RESERVE_BYTES = 16 * 1024 * 1024;
/** LUKS: the header and its key slots. */
const LUKS_BYTES = 2 * 1024 * 1024;

/** An image whose data is copied. */
export interface CopiedImage {
  /** Undefined if it is not known, as for a block device. */
  readonly allocatedBytes: number | undefined;
  /** The size of the file or device that holds it. */
  readonly storageBytes: number;
}

export interface TakenImage {
  readonly format: 'RAW' | 'QCOW2';
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number | undefined;
  readonly extendedL2: boolean;
  readonly encrypted: boolean;
}

/**
 * The most bytes that the copy of these images should allocate. Data that an overlay hides is counted twice, and data
 * of a compressed image as it is stored.
 */
export function spaceOfCopy(images: readonly CopiedImage[], image: TakenImage): number {
  const stored = images.map(({ allocatedBytes, storageBytes }) => allocatedBytes ?? storageBytes);
  const dataBytes = Math.min(
    image.virtualSizeBytes,
    stored.reduce((sum, bytes) => sum + bytes, 0),
  );
  return dataBytes + (image.format === 'RAW' ? 0 : metadataBytes(dataBytes, image));
}

/** The most that an image can allocate. */
export function spaceOfWhole(image: TakenImage): number {
  return spaceOfCopy([{ allocatedBytes: undefined, storageBytes: image.virtualSizeBytes }], image);
}

/** The header, the tables of the clusters, and the counts of their references. */
function metadataBytes(dataBytes: number, { virtualSizeBytes, clusterSizeBytes, extendedL2, encrypted }: TakenImage) {
  const cluster = clusterSizeBytes ?? DEFAULT_CLUSTER_BYTES;
  const clustersOf = (bytes: number) => Math.ceil(bytes / cluster);
  const perTable = cluster / (extendedL2 ? 16 : 8);
  // Data that lies apart needs a table for each piece.
  const tables = Math.min(Math.ceil(clustersOf(virtualSizeBytes) / perTable), clustersOf(dataBytes));
  const top = clustersOf(Math.ceil(clustersOf(virtualSizeBytes) / perTable) * 8);
  const counts = Math.ceil((clustersOf(dataBytes) + tables) / (cluster / 2)) + 1;
  return (1 + top + tables + counts) * cluster + (encrypted ? LUKS_BYTES : 0);
}

/** The bytes that a copy takes besides those that its destination has allocated already. */
export function spaceBesides(
  copyBytes: number,
  { allocatedBytes, wholeBytes, topOnly }: { allocatedBytes: number; wholeBytes: number; topOnly: boolean },
): number {
  // A whole copy replaces all of it; of a shallow one it is not known which part.
  return topOnly
    ? Math.min(copyBytes, Math.max(0, wholeBytes - allocatedBytes))
    : Math.max(0, copyBytes - allocatedBytes);
}

/** The space that a start needs: the estimate and the reserve, and no more than the destination can take at all. */
export function spaceForStart({ neededBytes, allocatedBytes, wholeBytes }: SpaceEstimate): number {
  return Math.min(neededBytes + RESERVE_BYTES, Math.max(0, wholeBytes - allocatedBytes));
}

/** The bytes that a copy will still allocate, by its estimate: 0 when it is complete, or without an estimate. */
export function restOfCopy({ accepted: { space }, ready, concluded }: Job, allocatedBytes: number): number {
  if (space === undefined || ready !== undefined || concluded !== undefined) return 0;
  return Math.max(0, space.allocatedBytes + space.neededBytes - allocatedBytes);
}

/** The bytes that must be free for an image that the guest writes: 0 if it cannot grow. */
export function spaceForGuest({ accepted: { space } }: Job, allocatedBytes: number): number {
  return Math.min(RESERVE_BYTES, Math.max(0, (space?.wholeBytes ?? Infinity) - allocatedBytes));
}

/** The level as last reported. */
export function spaceLevel({ accepted: { space: estimate }, space }: Job): SpaceLevel {
  if (space !== undefined) return space.level;
  return estimate !== undefined && spaceForStart(estimate) > estimate.freeBytes ? 'LOW' : 'ENOUGH';
}

/** For callers: as estimated at the start, or as last reported. */
export interface JobSpace {
  readonly level: SpaceLevel;
  readonly neededBytes: number;
  readonly freeBytes?: number;
  readonly overcommit: boolean;
}

/** Undefined if nothing is known. */
export function spaceOf(job: Job): JobSpace | undefined {
  const { accepted, space = accepted.space } = job;
  if (space === undefined) return undefined;
  const { neededBytes, freeBytes } = space;
  const overcommit = accepted.options.overcommit === true;
  return { level: spaceLevel(job), neededBytes, ...(freeBytes !== undefined && { freeBytes }), overcommit };
}
