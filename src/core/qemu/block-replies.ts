/** What QEMU says of its block devices, their nodes and the graph of these, as types (replies.ts). */
import { type Json, list, number, object, requiredText, text } from './replies.ts';

/** A disk as the guest has it. */
export interface QemuBlockDevice {
  /** The block backend's name: a -drive id; '' for -blockdev disks. */
  readonly device: string;
  /** qdev id or QOM path; '' for a drive that no device uses. */
  readonly qdev: string;
  /** The node that it is on, past filters that QEMU put there by itself; undefined: no medium. */
  readonly node: string | undefined;
}

/**
 * From query-blockstats. query-block has the same devices, and each image of their chains, for each of which QEMU goes
 * down the whole chain: all that is in query-named-block-nodes, too.
 */
export function readBlockDevices(reply: unknown): readonly QemuBlockDevice[] {
  return list(reply, 'query-blockstats').map((entry) => ({
    device: text(entry['device']) ?? '',
    qdev: text(entry['qdev']) ?? '',
    node: text(entry['node-name']),
  }));
}

/** A dirty bitmap of a node (qapi/block-core.json, BlockDirtyInfo). */
export interface QemuBitmap {
  readonly name: string;
  readonly granularityBytes: number;
  /** It records writes; else it keeps what it has. */
  readonly recording: boolean;
  /** Kept in the image when it is closed. */
  readonly persistent: boolean;
  /** Was not written out at a crash: of no use to anybody. */
  readonly inconsistent: boolean;
}

/** One node of query-named-block-nodes. */
export interface QemuNode {
  readonly name: string;
  readonly driver: string;
  /** As QEMU names it: a path, or a `json:{…}` or `nbd://…` pseudo file name. */
  readonly file: string;
  readonly readOnly: boolean;
  readonly cacheDirect: boolean;
  readonly detectZeroes: string;
  readonly virtualSizeBytes: number;
  readonly allocatedBytes: number;
  readonly clusterSizeBytes: number | undefined;
  readonly extendedL2: boolean;
  readonly encrypted: boolean;
  /** The file that has the image's contents, where that is another one; '' where not. */
  readonly dataFile: string;
  /** Names of the snapshots inside of it. */
  readonly snapshots: readonly string[];
  /** As the image's metadata have them; '' where they have none. */
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
      allocatedBytes: number(image['actual-size']),
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

/** One without a name belongs to a job of QEMU's. */
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

/** x-debug-query-block-graph: who uses whom. The same from QEMU 4.0 on, though its name says unstable. */
export interface QemuGraph {
  readonly nodes: readonly { readonly id: number; readonly name: string; readonly type: string }[];
  readonly edges: readonly {
    readonly parent: number;
    readonly child: number;
    readonly name: string;
    /** The parent lets others write to the child, too. */
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
