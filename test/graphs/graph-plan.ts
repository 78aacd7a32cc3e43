/** A disk's graph from the list of known kinds (src/core/disks), decided by the seed. Pure. */

import type { Random } from '../support/random.ts';
import type { Style } from '../support/real-qemu/qemu.ts';
import { type Extent, SECTOR } from './contents.ts';

export type Format = 'raw' | 'qcow2' | 'qcow' | 'qed' | 'vmdk' | 'vdi' | 'vpc' | 'vhdx' | 'parallels';
export type Filter = 'throttle' | 'blkdebug' | 'preallocate' | 'copy-on-read' | 'compress';

export interface ImagePlan {
  readonly format: Format;
  readonly sizeBytes: number;
  /** The options of qemu-img create. */
  readonly options: readonly string[];
  /** Below the folder of all. */
  readonly folder: string;
  readonly name: string;
  readonly on: 'file' | 'loop';
  /** How its header names the image below. */
  readonly names: 'absolute' | 'relative';
  readonly dataFile: 'none' | 'plain' | 'raw';
  /** The bytes before and behind it in its file. */
  readonly part: { readonly before: number; readonly behind: number } | undefined;
  readonly isCompressed: boolean;
  readonly hasSnapshot: boolean;
  readonly hasBitmap: boolean;
  /** Between it and its storage. */
  readonly layer: Filter | undefined;
  readonly writes: readonly Extent[];
}

export interface GraphPlan {
  readonly style: Style;
  /** QEMU gets each node; otherwise only the active image, and it finds the others by the headers. */
  readonly isExplicit: boolean;
  /** Base first. */
  readonly images: readonly [ImagePlan, ...ImagePlan[]];
  readonly discard: 'unmap' | 'ignore';
  readonly detectZeroes: 'off' | 'on' | 'unmap';
  readonly isShared: boolean;
  /** Above the active image. */
  readonly filter: Filter | undefined;
}

const KIB = 1 << 10;
const NAMES: readonly [string, ...string[]] = [
  'n'.repeat(150),
  ...'disk|a b|a,b|nbd:x|a%20b|ü€|json:{}|it’s|"q"|back\\slash|-x|a=b|#1|..x'.split('|'),
];
const FOLDERS = ['', '', 'one', 'two', 'deep/er', 'sp ace,comma'] as const;
const LONG_FOLDER = Array.from({ length: 4 }, () => 'd'.repeat(230)).join('/');
/** Otherwise its size would be rounded to cylinders, heads and sectors. */
const OPTIONS: Partial<Record<Format, readonly string[]>> = { vpc: ['force_size=on'] };
const OTHERS = ['qcow', 'qed', 'vmdk', 'vdi', 'vpc', 'vhdx', 'parallels'] as const;

/** `canLoop`: there are block devices. */
export function graphPlan(random: Random, canLoop: boolean): GraphPlan {
  const style = random.of<Style>(['blockdev', 'drive']);
  const isExplicit = style === 'blockdev' && random.chance(0.6);
  const isLong = random.chance(0.06);
  const depth = 1 + random.below(5);
  const sizeBytes = (1 + random.below(random.of([8, 300, 3000]))) * SECTOR;
  const [first, ...rest] = Array.from({ length: depth }, (_, at) => {
    const size = random.chance(0.8) ? sizeBytes : (1 + random.below(3000)) * SECTOR;
    return imagePlan(random, { at, depth, sizeBytes: size, isExplicit, isLong, canLoop });
  });
  if (first === undefined) throw new Error('no image');
  const discard = random.of<GraphPlan['discard']>(['unmap', 'ignore']);
  return {
    style,
    isExplicit,
    images: [first, ...rest],
    discard,
    detectZeroes: random.of(['off', 'off', 'on', discard === 'unmap' ? 'unmap' : 'off']),
    isShared: random.chance(0.08),
    filter: isExplicit && random.chance(0.05) ? random.of<Filter>(['throttle', 'copy-on-read']) : undefined,
  };
}

interface Place {
  readonly at: number;
  readonly depth: number;
  readonly sizeBytes: number;
  readonly isExplicit: boolean;
  /** Deep in folders, so that some names do not fit into a header. */
  readonly isLong: boolean;
  readonly canLoop: boolean;
}

function imagePlan(random: Random, { at, depth, sizeBytes, isExplicit, isLong, canLoop }: Place): ImagePlan {
  const isBase = at === 0;
  const format = isBase ? random.of<Format>(['raw', 'qcow2', 'qcow2', random.of(OTHERS)]) : 'qcow2';
  const isLoop = canLoop && !isLong && (format === 'raw' || format === 'qcow2') && random.chance(0.08);
  const folder = random.of(FOLDERS);
  const isOdd = format === 'raw' && !isLoop && depth > 1 && random.chance(0.3);
  const qcow2 =
    format === 'qcow2'
      ? shortNamed(qcow2Plan(random, isBase), isLong)
      : { options: OPTIONS[format] ?? [], dataFile: 'none' as const };
  const isPart = format === 'raw' && !isLoop && isExplicit && random.chance(0.2);
  // Compressed data is written once.
  const hasSnapshot = format === 'qcow2' && qcow2.dataFile === 'none' && random.chance(0.12);
  const isFree =
    format === 'qcow2' &&
    qcow2.dataFile === 'none' &&
    !hasSnapshot &&
    !qcow2.options.includes('preallocation=metadata');
  const isOther = format !== 'raw' && format !== 'qcow2';
  // Only the raw base of others may end inside of a sector.
  const ownBytes = isOther ? 4096 * KIB : isOdd && !isPart ? sizeBytes - 100 : sizeBytes;
  return {
    format,
    sizeBytes: ownBytes,
    ...qcow2,
    folder: isLong ? `${LONG_FOLDER}/${folder}` : folder,
    name: `${random.of(NAMES)}${at}`,
    on: isLoop ? 'loop' : 'file',
    names: isLong ? 'relative' : random.of(['absolute', 'relative']),
    part: isPart ? { before: random.below(4) * SECTOR, behind: (1 + random.below(4)) * SECTOR } : undefined,
    hasSnapshot,
    isCompressed: isFree && random.chance(0.25),
    hasBitmap: format === 'qcow2' && !qcow2.options.includes('compat=0.10') && random.chance(0.1),
    layer: isExplicit && random.chance(0.1) ? random.of<Filter>(['throttle', 'blkdebug', 'preallocate']) : undefined,
    writes: writesOf(random, Math.min(sizeBytes, ownBytes)),
  };
}

/** A header has no room for the long name of a data file. */
function shortNamed<Plan extends Pick<ImagePlan, 'dataFile'>>(plan: Plan, isLong: boolean): Plan {
  return isLong ? { ...plan, dataFile: 'none' } : plan;
}

function qcow2Plan(random: Random, isBase: boolean): Pick<ImagePlan, 'options' | 'dataFile'> {
  const clusterBytes = random.of([512, 4 * KIB, 64 * KIB, 64 * KIB, 2048 * KIB]);
  if (random.chance(0.1)) return { options: ['compat=0.10', `cluster_size=${clusterBytes}`], dataFile: 'none' };
  const dataFile = random.chance(0.1) ? (isBase && random.chance(0.5) ? 'raw' : 'plain') : 'none';
  const options = [`cluster_size=${clusterBytes}`];
  if (clusterBytes >= 16 * KIB && random.chance(0.3)) options.push('extended_l2=on');
  if (random.chance(0.2)) options.push('lazy_refcounts=on');
  if (isBase && random.chance(0.1)) options.push('preallocation=metadata');
  if (dataFile === 'none' && random.chance(0.1)) options.push('compression_type=zstd');
  return { options, dataFile };
}

/** Pieces that overlap those of other images, at sector borders; zeroes, too. */
function writesOf(random: Random, sizeBytes: number): readonly Extent[] {
  return Array.from({ length: 1 + random.below(8) }, () => extentIn(random, sizeBytes));
}

export function extentIn(random: Random, sizeBytes: number): Extent {
  const sectors = Math.floor(sizeBytes / SECTOR);
  if (sectors === 0) return { at: 0, bytes: 0, byte: 0 };
  const from = random.chance(0.15) ? sectors - 1 : random.below(sectors);
  const count = Math.min(1 + random.below(random.of([1, 40, 600])), sectors - from);
  return { at: from * SECTOR, bytes: count * SECTOR, byte: random.chance(0.2) ? 0 : 1 + random.below(255) };
}
