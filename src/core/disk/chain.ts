/**
 * A domain's disks and their chains, read out of what QEMU says of its block graph.
 *
 *   device (qdev) ──root──► [filters] ──► top image ──backing──► … ──backing──► base image
 *                                            │file                                 │file
 *                                            ▼                                     ▼
 *                                        protocol node                         protocol node
 *
 * The edges come from x-debug-query-block-graph, since file names do not tell which node is whose child.
 */
import type { QemuBlockDevice, QemuGraph, QemuNode } from '../qemu/block-replies.ts';

/** One image of a chain. */
export interface Image extends Omit<QemuNode, 'name' | 'driver' | 'file' | 'cacheDirect' | 'detectZeroes'> {
  readonly node: string;
  /** QEMU's driver: qcow2, raw, vmdk, … */
  readonly format: string;
  /** The absolute path; QEMU's own name (`nbd://…`) if it is not a local file. */
  readonly path: string;
  /** The node that holds its bytes: file, host_device, nbd, … */
  readonly storage: { readonly node: string; readonly driver: string } | undefined;
  /** Whether the image, or one of its layers, is encrypted. */
  readonly encrypted: boolean;
  /** Drivers of the nodes between the image and its storage, top down: luks, throttle, raw with an offset, … Mostly []. */
  readonly layers: readonly string[];
  /** Drivers of the filters directly above it. */
  readonly filters: readonly string[];
  /** Whether it shows only a part of its file: raw with offset or size, or an image inside such a part. */
  readonly isPart: boolean;
  /** The filter of an ended copy right above it that nothing uses; undefined if there is none. */
  readonly lostFilter?: string;
}

/** A guest-visible block device. */
export interface Disk {
  /** The id of the device (`-device …,id=`), or its QOM path if it has none. */
  readonly id: string;
  /** The name in query-block; `qom-get` takes it. */
  readonly qdev: string;
  /** The block backend's name: a -drive id; '' for a -blockdev disk. */
  readonly backend: string;
  /** The top (active) image first. Empty if there is no medium. */
  readonly chain: readonly [Image, ...Image[]] | readonly [];
  /** Nodes from the device's root to the top image: filters that a client inserted. */
  readonly filters: readonly string[];
  /** Names of the block jobs that use any image of the chain. */
  readonly blockJobs: readonly string[];
  /** The host's page cache is bypassed (cache.direct). */
  readonly cacheDirect: boolean;
  readonly detectZeroes: string;
  /** Whether the device lets others write to its image (share-rw). */
  readonly sharesWrites: boolean;
}

export interface BlockGraph {
  readonly disks: readonly Disk[];
  /** Every named node, with the path of its file. */
  readonly nodes: ReadonlyMap<string, Image>;
  readonly children: ReadonlyMap<string, readonly { readonly edge: string; readonly node: string }[]>;
  /** The nodes that each block job uses. */
  readonly jobNodes: ReadonlyMap<string, readonly string[]>;
}

const FILTER_DRIVERS: ReadonlySet<string> = new Set([
  'mirror_top',
  'commit_top',
  'backup-top',
  'copy-before-write',
  'copy-on-read',
  'throttle',
  'compress',
  'preallocate',
]);

/** Builds the graph. `absolute` makes a file name absolute that is relative to QEMU's working directory. */
export function readBlockGraph(
  devices: readonly QemuBlockDevice[],
  nodes: readonly QemuNode[],
  graph: QemuGraph,
  absolute: (file: string) => string,
): BlockGraph {
  const images = new Map<string, Image>(
    nodes.map(
      ({ name: node, driver: format, file, cacheDirect: _cacheDirect, detectZeroes: _detectZeroes, ...facts }) => [
        node,
        { ...facts, node, format, path: absolute(file), storage: undefined, layers: [], filters: [], isPart: false },
      ],
    ),
  );
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const byId = new Map(graph.nodes.map((node) => [node.id, node]));
  const children = new Map<string, { edge: string; node: string }[]>();
  const jobsOn = new Map<string, string[]>();
  const rootOf = new Map<string, { readonly node: string; readonly sharesWrites: boolean }>();
  for (const edge of graph.edges) {
    const parent = byId.get(edge.parent);
    const child = byId.get(edge.child);
    if (parent === undefined || child === undefined) continue;
    if (parent.type === 'block-backend') {
      rootOf.set(parent.name, { node: child.name, sharesWrites: edge.sharesWrites });
    } else if (parent.type === 'block-job') jobsOn.set(child.name, [...(jobsOn.get(child.name) ?? []), parent.name]);
    else children.set(parent.name, [...(children.get(parent.name) ?? []), { edge: edge.name, node: child.name }]);
  }
  const childOf = (node: string, ...edges: string[]) =>
    children.get(node)?.find((child) => edges.includes(child.edge))?.node;

  /** The nodes below this one down to its storage, along the `file` edges; blkdebug's edge is called `image`. */
  const wayDown = (node: string): readonly Image[] => {
    const below = images.get(childOf(node, 'file', 'image') ?? '');
    return below === undefined ? [] : [below, ...wayDown(below.node)];
  };

  const disks = devices
    .filter((device) => device.qdev !== '')
    .map((device): Disk => {
      const filters: string[] = [];
      let above: string[] = [];
      const chain: Image[] = [];
      const root =
        device.node !== undefined ? rootOf.get(device.device === '' ? device.qdev : device.device) : undefined;
      let node = root?.node;
      while (node !== undefined) {
        const image = images.get(node);
        // A filter of a running job may have no name; query-named-block-nodes then lists it as '#block…'.
        if (image === undefined) break;
        if (FILTER_DRIVERS.has(image.format)) {
          if (chain.length === 0) filters.push(node);
          above.push(image.format);
          node = childOf(node, 'backing', 'file');
        } else {
          const way = wayDown(node);
          const storage = way.at(-1);
          const layers = way.slice(0, -1);
          // QEMU names an overlay by its options (`json:{…}`) if they differ from its header.
          const path = storage === undefined || image.path.startsWith('/') ? image.path : storage.path;
          chain.push({
            ...image,
            path,
            storage: storage && { node: storage.node, driver: storage.format },
            encrypted: [image, ...layers].some(({ encrypted }) => encrypted),
            layers: layers.map(({ format }) => format),
            filters: above,
            isPart: way.some((below, at) => isPartOf((at === 0 ? image : way[at - 1]) ?? image, below)),
          });
          above = [];
          node = childOf(node, 'backing');
        }
      }
      const [top, ...below] = chain;
      const on = device.node === undefined ? undefined : byName.get(device.node);
      const users = [...filters, ...chain.map((image) => image.node)].flatMap((name) => jobsOn.get(name) ?? []);
      return {
        id: idOf(device.qdev),
        qdev: device.qdev,
        backend: device.device,
        chain: top === undefined ? [] : [top, ...below],
        filters,
        blockJobs: [...new Set(users)],
        cacheDirect: on?.cacheDirect ?? false,
        detectZeroes: on?.detectZeroes ?? 'off',
        sharesWrites: root?.sharesWrites === true,
      };
    });
  const jobNodes = new Map<string, string[]>();
  for (const [node, jobs] of jobsOn) for (const job of jobs) jobNodes.set(job, [...(jobNodes.get(job) ?? []), node]);
  return { disks, nodes: images, children, jobNodes };
}

/**
 * Raw shows everything below it, except for what offset and size cut off. QEMU reports these two only in a `json:`
 * name, as numbers or as text, and not if that name is too long; the sizes always show it.
 */
function isPartOf(image: Image, below: Image): boolean {
  return image.format === 'raw' && image.virtualSizeBytes !== below.virtualSizeBytes;
}

/** `vd0` for `/machine/peripheral/vd0/virtio-backend`; a path without an id stays as it is. */
function idOf(qdev: string): string {
  return /^\/machine\/peripheral\/([^/]+)/.exec(qdev)?.[1] ?? qdev;
}

/**
 * Finds the disk of this address: qdev id or QOM path, block backend, node name of the top image, or path of that
 * image. The first kind of name that matches exactly one disk wins, because a path may be open twice.
 */
export function findDisk(graph: BlockGraph, address: string): Disk | undefined {
  const kinds: ((disk: Disk) => boolean)[] = [
    (disk) => disk.id === address || disk.qdev === address,
    (disk) => disk.backend === address && address !== '',
    (disk) => disk.chain[0]?.node === address,
    (disk) => disk.chain[0]?.path === address,
  ];
  for (const matches of kinds) {
    const [disk, another] = graph.disks.filter(matches);
    if (disk !== undefined && another === undefined) return disk;
  }
  return undefined;
}

/** The node and all nodes below it, each before those it uses: the order in which blockdev-del can remove them. */
export function topDown(graph: BlockGraph, node: string): readonly string[] {
  const bottomUp = new Set<string>();
  const visit = (name: string) => {
    for (const child of graph.children.get(name) ?? []) if (!bottomUp.has(child.node)) visit(child.node);
    bottomUp.add(name);
  };
  visit(node);
  return [...bottomUp].toReversed();
}

/** The node and all nodes below it that neither `kept` nor another disk uses, each before those it uses. */
export function onlyBelow(graph: BlockGraph, disk: Disk, node: string, kept: readonly string[]): readonly string[] {
  const others = graph.disks.flatMap((other) => (other.qdev === disk.qdev ? [] : (other.chain[0]?.node ?? [])));
  const used = new Set([...kept, ...others].flatMap((one) => topDown(graph, one)));
  return topDown(graph, node).filter((one) => !used.has(one));
}
