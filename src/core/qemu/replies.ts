/**
 * QEMU's answers as types. QEMU adds and removes members from version to version, so each reader takes the members that
 * it needs and ignores the rest (docs/interop/qmp-spec, "Compatibility considerations").
 */

export type Json = Readonly<Record<string, unknown>>;

/** QEMU gave an answer that no version documents: the caller is not at fault, and its meaning must not be guessed. */
export class UnexpectedReply extends Error {
  override readonly name = 'UnexpectedReply';
}

export function object(value: unknown, what: string): Json {
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

export function number(value: unknown): number {
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
  /** The error of a job that failed; absent while the job runs and after success. */
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

/** The threads of the virtual CPUs, numbered as in QEMU's own pid namespace. */
export function readCpuThreads(reply: unknown): readonly number[] {
  return list(reply, 'query-cpus-fast').map((cpu) => number(cpu['thread-id']));
}

/** File descriptors that were passed to QEMU. */
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

/** The type of each object in QEMU, by the object's id. qom-list also has the properties of the folder itself. */
export function readObjects(reply: unknown): ReadonlyMap<string, string> {
  return new Map(
    list(reply, 'qom-list').flatMap(({ name, type }) => {
      const [, child] = /^child<(.+)>$/.exec(text(type) ?? '') ?? [];
      return child === undefined ? [] : [[text(name) ?? '', child] as const];
    }),
  );
}

export function readName(reply: unknown): string | undefined {
  return text(object(reply, 'query-name')['name']);
}

/** Undefined for a QEMU that was started without -uuid, which reports all zeroes. */
export function readUuid(reply: unknown): string | undefined {
  const uuid = text(object(reply, 'query-uuid')['UUID']);
  return uuid === undefined || /^[0-]+$/.test(uuid) ? undefined : uuid;
}

/** qapi/run-state.json, RunState: running, paused, prelaunch, io-error, shutdown, … */
export function readRunState(reply: unknown): string {
  return requiredText(object(reply, 'query-status'), 'status', 'query-status');
}

/** qapi/migration.json, MigrationStatus: setup, active, completed, failed, … Undefined if there has been no migration. */
export function readMigrationStatus(reply: unknown): string | undefined {
  return text(object(reply, 'query-migrate')['status']);
}
