/**
 * What QEMU's answers say, as types. QEMU adds members from version to version and leaves others away, so each
 * reader takes what it needs and ignores the rest (docs/interop/qmp-spec, "Compatibility considerations").
 */

type Json = Readonly<Record<string, unknown>>;

/** QEMU answered something that no version documented: not an error of the caller's, and not to be guessed at. */
export class UnexpectedReply extends Error {
  override readonly name = 'UnexpectedReply';
}

function object(value: unknown, what: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new UnexpectedReply(`QEMU's ${what} is not an object`);
}

export function list(value: unknown, what: string): readonly Json[] {
  if (Array.isArray(value)) return value.map((item) => object(item, what));
  throw new UnexpectedReply(`QEMU's ${what} is not a list`);
}

export function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

export function requiredText(from: Json, key: string, what: string): string {
  const value = text(from[key]);
  if (value === undefined) throw new UnexpectedReply(`QEMU's ${what} has no ${key}`);
  return value;
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

/** qapi/job.json, JobStatus. */
export type QemuJobStatus =
  | 'undefined'
  | 'created'
  | 'running'
  | 'paused'
  | 'ready'
  | 'standby'
  | 'waiting'
  | 'pending'
  | 'aborting'
  | 'concluded'
  | 'null';

export interface QemuJob {
  readonly id: string;
  /** mirror, stream, commit, create, … */
  readonly type: string;
  readonly status: QemuJobStatus;
  /** The text of a job that ended with an error; absent while it runs and after success. */
  readonly error: string | undefined;
  readonly currentBytes: number;
  readonly endBytes: number;
}

export interface QemuBlockJob {
  readonly id: string;
  readonly status: QemuJobStatus;
  readonly paused: boolean;
  readonly ioStatus: 'ok' | 'failed' | 'nospace';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly speedBytesPerSecond: number;
}

export function readJobs(reply: unknown): readonly QemuJob[] {
  return list(reply, 'query-jobs').map((job) => ({
    id: requiredText(job, 'id', 'query-jobs'),
    type: text(job['type']) ?? '',
    status: requiredText(job, 'status', 'query-jobs') as QemuJobStatus,
    error: text(job['error']),
    currentBytes: number(job['current-progress']),
    endBytes: number(job['total-progress']),
  }));
}

export function readBlockJobs(reply: unknown): readonly QemuBlockJob[] {
  return list(reply, 'query-block-jobs').map((job) => ({
    id: requiredText(job, 'device', 'query-block-jobs'),
    status: (text(job['status']) ?? 'undefined') as QemuJobStatus,
    paused: job['paused'] === true,
    ioStatus: (text(job['io-status']) ?? 'ok') as QemuBlockJob['ioStatus'],
    offsetBytes: number(job['offset']),
    lengthBytes: number(job['len']),
    speedBytesPerSecond: number(job['speed']),
  }));
}

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
  readonly edges: readonly { readonly parent: number; readonly child: number; readonly name: string }[];
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
    })),
  };
}

/** The threads of the virtual CPUs, as QEMU's own pid namespace counts them. */
export function readCpuThreads(reply: unknown): readonly number[] {
  return list(reply, 'query-cpus-fast').map((cpu) => number(cpu['thread-id']));
}

/** Descriptors that QEMU was handed. */
export interface QemuFdset {
  readonly id: number;
  readonly descriptors: readonly number[];
}

export function readFdsets(reply: unknown): readonly QemuFdset[] {
  return list(reply, 'query-fdsets').map((set) => ({
    id: number(set['fdset-id']),
    descriptors: list(set['fds'] ?? [], 'query-fdsets').map((one) => number(one['fd'])),
  }));
}

export function readName(reply: unknown): string | undefined {
  return text(object(reply, 'query-name')['name']);
}

/** Undefined for a QEMU that was started without -uuid: it says all zeroes. */
export function readUuid(reply: unknown): string | undefined {
  const uuid = text(object(reply, 'query-uuid')['UUID']);
  return uuid === undefined || /^[0-]+$/.test(uuid) ? undefined : uuid;
}

/** qapi/run-state.json, RunState: running, paused, prelaunch, io-error, shutdown, … */
export function readRunState(reply: unknown): string {
  return requiredText(object(reply, 'query-status'), 'status', 'query-status');
}

/** qapi/migration.json, MigrationStatus: setup, active, completed, failed, … Undefined: there has been none. */
export function readMigrationStatus(reply: unknown): string | undefined {
  return text(object(reply, 'query-migrate')['status']);
}
