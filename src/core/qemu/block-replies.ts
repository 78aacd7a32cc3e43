/** QEMU's answers about its block devices, their nodes and the graph of these, as types (replies.ts). */
import { type Json, list, number, object, requiredText, text } from './replies.ts';

/** A disk of the guest. */
export interface QemuBlockDevice {
  /** The block backend's name: a -drive id; '' for -blockdev disks. */
  readonly device: string;
  /** The qdev id or QOM path; '' for a drive without a device. */
  readonly qdev: string;
  /** The node of its image, below the filters that QEMU inserted by itself; undefined if there is no medium. */
  readonly node: string | undefined;
  /** The guest's writes since QEMU was started. */
  readonly written: { readonly operations: number; readonly bytes: number };
}

/**
 * From query-blockstats. query-block has the same devices, but with each image of their chains, and for each image QEMU
 * walks the whole chain. query-named-block-nodes has all of that, too.
 */
export function readBlockDevices(reply: unknown): readonly QemuBlockDevice[] {
  return list(reply, 'query-blockstats').map((entry) => ({
    device: text(entry['device']) ?? '',
    qdev: text(entry['qdev']) ?? '',
    node: text(entry['node-name']),
    written: writtenIn(object(entry['stats'] ?? {}, 'query-blockstats')),
  }));
}

/** From query-blockstats with query-nodes: behind which byte of a node nothing was written since it was opened. */
export function readHighestWrite(reply: unknown, node: string): number | undefined {
  const found = list(reply, 'query-blockstats').find((entry) => entry['node-name'] === node);
  const highest = found === undefined ? undefined : object(found['stats'], 'query-blockstats')['wr_highest_offset'];
  return typeof highest === 'number' ? highest : undefined;
}

function writtenIn(stats: Json): QemuBlockDevice['written'] {
  return { operations: number(stats['wr_operations']), bytes: number(stats['wr_bytes']) };
}

/** A dirty bitmap of a node (qapi/block-core.json, BlockDirtyInfo). */
export interface QemuBitmap {
  readonly name: string;
  readonly granularityBytes: number;
  /** Whether it records writes; if not, it keeps its present contents. */
  readonly recording: boolean;
  /** Whether it is written into the image when the image is closed. */
  readonly persistent: boolean;
  /** Whether it was not written out before a crash, and so cannot be used. */
  readonly inconsistent: boolean;
}

/** One node of query-named-block-nodes. */
export interface QemuNode {
  readonly name: string;
  readonly driver: string;
  /** QEMU's name for it: a path, or a `json:{…}` or `nbd://…` pseudo file name. */
  readonly file: string;
  readonly readOnly: boolean;
  readonly cacheDirect: boolean;
  readonly detectZeroes: string;
  readonly virtualSizeBytes: number;
  readonly allocatedBytes: number | undefined;
  readonly clusterSizeBytes: number | undefined;
  readonly extendedL2: boolean;
  readonly encrypted: boolean;
  /** The file with the contents of the image, if that is another file; '' otherwise. */
  readonly dataFile: string;
  /** Names of its internal snapshots. */
  readonly snapshots: readonly string[];
  /** The value in the image's metadata; '' if there is none. */
  readonly backingFile: string;
  readonly backingFormat: string;
  readonly bitmaps: readonly QemuBitmap[];
}

export function readNodes(reply: unknown): readonly QemuNode[] {
  return list(reply, 'query-named-block-nodes').map((node) => {
    const image = object(node['image'], 'query-named-block-nodes');
    const cache = node['cache'] === undefined ? {} : object(node['cache'], 'query-named-block-nodes');
    const specific = image['format-specific'] === undefined ? {} : object(image['format-specific'], 'format-specific');
    const data = specific['data'] === undefined ? {} : object(specific['data'], 'format-specific');
    return {
      name: requiredText(node, 'node-name', 'query-named-block-nodes'),
      driver: text(node['drv']) ?? '',
      file: text(node['file']) ?? '',
      readOnly: node['ro'] === true,
      cacheDirect: cache['direct'] === true,
      detectZeroes: text(node['detect_zeroes']) ?? 'off',
      virtualSizeBytes: number(image['virtual-size']),
      allocatedBytes: typeof image['actual-size'] === 'number' ? image['actual-size'] : undefined,
      clusterSizeBytes: typeof image['cluster-size'] === 'number' ? image['cluster-size'] : undefined,
      extendedL2: data['extended-l2'] === true,
      encrypted: image['encrypted'] === true,
      dataFile: text(data['data-file']) ?? '',
      snapshots: list(image['snapshots'] ?? [], 'snapshots').map((one) => text(one['name']) ?? ''),
      backingFile: text(image['backing-filename']) ?? '',
      backingFormat: text(image['backing-filename-format']) ?? '',
      bitmaps: list(node['dirty-bitmaps'] ?? [], 'dirty-bitmaps').flatMap(readBitmap),
    };
  });
}

/** A node without a name belongs to a job of QEMU. */
function readBitmap(bitmap: Json): readonly QemuBitmap[] {
  const name = text(bitmap['name']);
  if (name === undefined) return [];
  return [
    {
      name,
      granularityBytes: number(bitmap['granularity']),
      recording: bitmap['recording'] === true,
      persistent: bitmap['persistent'] === true,
      inconsistent: bitmap['inconsistent'] === true,
    },
  ];
}

/** x-debug-query-block-graph: the edges between nodes. It is the same since QEMU 4.0, although its name says unstable. */
export interface QemuGraph {
  readonly nodes: readonly { readonly id: number; readonly name: string; readonly type: string }[];
  readonly edges: readonly {
    readonly parent: number;
    readonly child: number;
    readonly name: string;
    /** Whether the parent lets others write to the child, too. */
    readonly sharesWrites: boolean;
  }[];
}

export function readGraph(reply: unknown): QemuGraph {
  const graph = object(reply, 'x-debug-query-block-graph');
  return {
    nodes: list(graph['nodes'], 'x-debug-query-block-graph').map((node) => ({
      id: number(node['id']),
      name: text(node['name']) ?? '',
      type: text(node['type']) ?? '',
    })),
    edges: list(graph['edges'], 'x-debug-query-block-graph').map((edge) => ({
      parent: number(edge['parent']),
      child: number(edge['child']),
      name: text(edge['name']) ?? '',
      sharesWrites: Array.isArray(edge['shared-perm']) && edge['shared-perm'].includes('write'),
    })),
  };
}
