/**
 * Whether two nodes have the same contents. QEMU compares them: a quorum of both refuses to read where they differ, and a
 * mirror of that quorum into a null node reads all of it, with a limit of speed and memory, and without a guest. It skips
 * the parts that both know to be zeroes.
 *
 *   destination ──window──┐
 *                         ├── quorum ──mirror──► nothing
 *   backing     ──window──┘
 */

import { SECTOR_BYTES, wholeSectors } from '../disk/sectors.ts';
import { LEAST_BUFFER_BYTES } from '../job-options.ts';
import type { BlockdevOptions, QmpCommand } from '../qemu/commands.ts';

/** The node with the disk as the guest would see it, and the node that it has to equal: the image below the active one. */
export interface Comparison {
  /** The beginning of the names of all jobs and nodes of the comparison. */
  readonly job: string;
  readonly destination: { readonly node: string; readonly path: string; readonly bytes: number };
  readonly backing: { readonly node: string; readonly path: string; readonly bytes: number };
  /** 0: no limit. */
  readonly bandwidthBytesPerSecond: number;
}

/** A part of the disk. Behind the end of a shorter backing image it is compared with zeroes. */
export interface Part {
  readonly offset: number;
  readonly bytes: number;
  readonly to: 'BACKING' | 'ZEROES';
}

/** The nodes to read. BOTH compares them. */
export type Sides = 'BOTH' | 'DESTINATION' | 'BACKING';

const LEAST_PART_BYTES = 1024 * 1024 * 1024;
/** Small enough that finding a difference reads little again, large enough that a large disk has not thousands of parts. */
const MOST_PARTS = 64;
const MIB = 1024 * 1024;

export function partsOf({ destination, backing }: Pick<Comparison, 'destination' | 'backing'>): readonly Part[] {
  const end = destination.bytes;
  const border = Math.min(backing.bytes, end);
  const step = Math.max(LEAST_PART_BYTES, Math.ceil(end / MOST_PARTS / MIB) * MIB);
  return [...cut(0, border, step, 'BACKING'), ...cut(border, end, step, 'ZEROES')];
}

function cut(from: number, to: number, step: number, other: Part['to']): readonly Part[] {
  const count = Math.ceil((to - from) / step);
  return Array.from({ length: count }, (_, index) => {
    const offset = from + index * step;
    return { offset, bytes: Math.min(step, to - offset), to: other };
  });
}

/** The first sector that differs, in a part that is known to have one. */
export async function firstDifference(part: Part, differs: (part: Part) => Promise<boolean>): Promise<Part> {
  let { offset, bytes } = part;
  while (bytes > SECTOR_BYTES) {
    const half = wholeSectors(bytes / 2);
    if (await differs({ ...part, offset, bytes: half })) bytes = half;
    else [offset, bytes] = [offset + half, bytes - half];
  }
  return { ...part, offset, bytes };
}

export function comparisonNames(job: string) {
  const nodes = { quorum: `${job}-vq`, destination: `${job}-vd`, backing: `${job}-vb`, nothing: `${job}-vn` };
  return { qemuJob: `${job}-verify`, filter: `${job}-vf`, ...nodes };
}

/** The nodes of a comparison, each before those it uses. */
export function comparisonNodes(job: string): readonly string[] {
  const { quorum, destination, backing, nothing } = comparisonNames(job);
  return [quorum, destination, backing, nothing];
}

/** The job that reads one part; its end has the answer. */
export function readPart(comparison: Comparison, part: Part, sides: Sides): readonly QmpCommand[] {
  const { job, destination, backing, bandwidthBytesPerSecond } = comparison;
  const names = comparisonNames(job);
  const { offset, bytes: size } = part;
  const window = { driver: 'raw', offset, size, 'read-only': true } as const;
  const zeroes = {
    driver: 'null-co',
    'node-name': names.backing,
    size,
    'read-zeroes': true,
    'read-only': true,
  } as const;
  const quorum = {
    driver: 'quorum',
    'node-name': names.quorum,
    children: [names.destination, names.backing],
    'vote-threshold': 2,
    'read-only': true,
  } as const;
  const nodes: readonly BlockdevOptions[] = [
    { ...window, 'node-name': names.destination, file: destination.node },
    part.to === 'ZEROES' ? zeroes : { ...window, 'node-name': names.backing, file: backing.node },
    // A node below another one cannot be mirrored.
    ...(sides === 'BOTH' ? [quorum] : []),
    { driver: 'null-co', 'node-name': names.nothing, size },
  ];
  return [
    ...nodes.map((options): QmpCommand => ({ execute: 'blockdev-add', arguments: options })),
    {
      execute: 'blockdev-mirror',
      arguments: {
        'job-id': names.qemuJob,
        device: { BOTH: names.quorum, DESTINATION: names.destination, BACKING: names.backing }[sides],
        target: names.nothing,
        sync: 'full',
        speed: bandwidthBytesPerSecond,
        'buf-size': LEAST_BUFFER_BYTES,
        'on-source-error': 'report',
        'on-target-error': 'report',
        'filter-node-name': names.filter,
        'copy-mode': 'background',
        'auto-finalize': true,
        'auto-dismiss': false,
      },
    },
  ];
}
