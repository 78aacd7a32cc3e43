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
import type { QemuBitmap, QemuBlockDevice, QemuGraph, QemuNode } from '../qemu/block-replies.ts';

/** One image of a chain. */
export interface Image {
  readonly node: string;
  /** QEMU's driver: qcow2, raw, vmdk, … */
  readonly format: string;
  /** The absolute path; for other than local files QEMU's own name of it (`nbd://…`). */
  readonly path: string;
  /** The node that holds its bytes: file, host_device, nbd, … */
  readonly storage: { readonly node: string; readonly driver: string } | undefined;
  readonly virtualSizeBytes: number;
  readonly allocatedBytes: number;
  readonly clusterSizeBytes: number | undefined;
  readonly extendedL2: boolean;
  readonly readOnly: boolean;
  /** It, or one of its layers. */
  readonly encrypted: boolean;
  /** Drivers of the nodes between it and its storage, top down: luks, throttle, raw with an offset, … Mostly none. */
  readonly layers: readonly string[];
  /** Drivers of the filters right above it. */
  readonly filters: readonly string[];
  /** It shows a part of its file, and not all of it: raw with offset or size, or what is inside of such a one. */
  readonly isPart: boolean;
  /** The file that has its contents, where that is another one; '' mostly. */
  readonly dataFile: string;
  /** Names of the snapshots inside of it. */
  readonly snapshots: readonly string[];
  /** As the image's metadata have them; '' where they have none. */
  readonly backingFile: string;
  readonly backingFormat: string;
  readonly bitmaps: readonly QemuBitmap[];
}

/** A guest-visible block device. */
export interface Disk {
  /** The device's id (`-device …,id=`), or its QOM path where it has none. */
  readonly id: string;
  /** As query-block names it; `qom-get` takes it. */
  readonly qdev: string;
  /** The block backend's name: a -drive id; '' for a -blockdev disk. */
  readonly backend: string;
  /** Top (active) image first. Empty: no medium. */
  readonly chain: readonly [Image, ...Image[]] | readonly [];
  /** Nodes from the device's root to the top image: filters that somebody put there. */
  readonly filters: readonly string[];
  /** Names of the block jobs that use any image of the chain. */
  readonly blockJobs: readonly string[];
  /** The host's page cache is bypassed (cache.direct). */
  readonly cacheDirect: boolean;
  readonly detectZeroes: string;
  /** The device lets others write to its image (share-rw). */
  readonly sharesWrites: boolean;
}

export interface BlockGraph {
  readonly disks: readonly Disk[];
  /** Every named node, with the path of its file. */
  readonly nodes: ReadonlyMap<string, Image>;
  readonly children: ReadonlyMap<string, readonly { readonly edge: string; readonly node: string }[]>;
  /** Which nodes each block job uses. */
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

/**
 * Builds the graph. `absolute` turns a file name that QEMU was started with into an absolute path: names may be
 * relative to QEMU's working directory.
 */
export function readBlockGraph(
  devices: readonly QemuBlockDevice[],
  nodes: readonly QemuNode[],
  graph: QemuGraph,
  absolute: (file: string) => string,
): BlockGraph {
  const images = new Map<string, Image>(
    nodes.map((node) => [
      node.name,
      {
        node: node.name,
        format: node.driver,
        path: absolute(node.file),
        virtualSizeBytes: node.virtualSizeBytes,
        allocatedBytes: node.allocatedBytes,
        storage: undefined,
        clusterSizeBytes: node.clusterSizeBytes,
        extendedL2: node.extendedL2,
        readOnly: node.readOnly,
        encrypted: node.encrypted,
        layers: [],
        filters: [],
        isPart: false,
        dataFile: node.dataFile,
        snapshots: node.snapshots,
        backingFile: node.backingFile,
        backingFormat: node.backingFormat,
        bitmaps: node.bitmaps,
      },
    ]),
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

  /** The nodes below this one down to its bytes, along the `file` edges; blkdebug's is called `image`. */
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
        // A filter of a running job may be unnamed, and then query-named-block-nodes has it under '#block…'.
        if (image === undefined) break;
        if (FILTER_DRIVERS.has(image.format)) {
          if (chain.length === 0) filters.push(node);
          above.push(image.format);
          node = childOf(node, 'backing', 'file');
        } else {
          const way = wayDown(node);
          const storage = way.at(-1);
          const layers = way.slice(0, -1);
          // QEMU names an overlay by its options (`json:{…}`) where its header does not say the same.
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
 * Raw shows all that is below it, but for what its offset and size leave out. By these QEMU tells them only in a `json:` name, as
 * numbers or as text, and not where that name is too long; by the sizes it always shows.
 */
function isPartOf(image: Image, below: Image): boolean {
  return image.format === 'raw' && image.virtualSizeBytes !== below.virtualSizeBytes;
}

/** `vd0` of `/machine/peripheral/vd0/virtio-backend`; a path that holds no id stays as it is. */
function idOf(qdev: string): string {
  return /^\/machine\/peripheral\/([^/]+)/.exec(qdev)?.[1] ?? qdev;
}

/**
 * Finds the disk that `address` names: qdev id or QOM path, block backend, node name of the top image, or that
 * image's path. The first kind of name that matches exactly one disk wins, as a path may be open twice.
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

/** The node and all below it, each before what it uses: the order in which blockdev-del can take them away. */
export function topDown(graph: BlockGraph, node: string): readonly string[] {
  const bottomUp = new Set<string>();
  const visit = (name: string) => {
    for (const child of graph.children.get(name) ?? []) if (!bottomUp.has(child.node)) visit(child.node);
    bottomUp.add(name);
  };
  visit(node);
  return [...bottomUp].toReversed();
}

/** The node and all below it that neither `kept` nor another disk uses, each before what it uses. */
export function onlyBelow(graph: BlockGraph, disk: Disk, node: string, kept: readonly string[]): readonly string[] {
  const others = graph.disks.flatMap((other) => (other.qdev === disk.qdev ? [] : (other.chain[0]?.node ?? [])));
  const used = new Set([...kept, ...others].flatMap((one) => topDown(graph, one)));
  return topDown(graph, node).filter((one) => !used.has(one));
}
