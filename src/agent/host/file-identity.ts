/**
 * The identity of a file. A path is only a name: QEMU may be in another mount namespace or root, and two names may be
 * one file. A file is known by its device and inode, a block device also by its parts: the file under a loop device,
 * the disks under a device-mapper device, the disk of a partition.
 */
import type { BigIntStats } from 'node:fs';
import { readdir, readFile, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Disk } from '../../core/disk/chain.ts';
import type { Accepted } from '../../core/job/journal-entry.ts';
import { bornOf, type FileNames, filesOpenedBy, keyOfFile, type UsedFile } from '../../core/job/used-file.ts';
import { deviceName, deviceNumber } from './device-number.ts';
import { lstat, readlink, stat } from './disk-files.ts';

export interface FileIdentity {
  /** Not a device. */
  readonly isFile: boolean;
  /** For a loop device the key of its file, which has the same bytes. */
  readonly key: string;
  /** The key, and the keys of all its parts. */
  readonly keys: ReadonlySet<string>;
  /** Like the key, also after another boot; a device made of files has it in the keys. Within one boot keys are enough. */
  readonly born: string | undefined;
}

/** The kernel's own limit, ELOOP (include/linux/namei.h, MAXSYMLINKS). */
const MOST_LINKS = 40;

/**
 * Undefined if no file has this name, or it cannot be looked at. `root`: the root of the process that uses the name.
 * `sys`: the kernel's folder of block devices.
 */
export async function identify(path: string, root = '', sys = '/sys'): Promise<FileIdentity | undefined> {
  if (!path.startsWith('/')) return undefined;
  const real = await inRoot(root, path).catch(() => undefined);
  const there = real === undefined ? undefined : await stat(real).catch(() => undefined);
  return there === undefined ? undefined : await identityOf(there, sys);
}

/** The file that a process with that root finds under a name. Rejects if the name cannot be followed. */
export async function inRoot(root: string, path: string): Promise<string> {
  return root === '' ? path : await resolveIn(root, path);
}

export async function identityOf(stats: BigIntStats, sys = '/sys'): Promise<FileIdentity> {
  if (stats.isBlockDevice()) return await deviceIdentity(Number(stats.rdev), sys);
  const key = keyOfFile(stats.dev, stats.ino);
  return { isFile: true, key, keys: new Set([key]), born: bornOf(stats.ino, stats.birthtimeNs) };
}

/** Whether a write to one changes the other. */
export function overlaps(one: FileIdentity, other: FileIdentity): boolean {
  return one.keys.has(other.key) || other.keys.has(one.key);
}

async function deviceIdentity(rdev: number, sys: string): Promise<FileIdentity> {
  const own = `device ${rdev}`;
  const folder = await realpath(`${sys}/dev/block/${deviceName(rdev)}`).catch(() => undefined);
  if (folder === undefined) return { isFile: false, key: own, keys: new Set([own]), born: undefined };
  const file = await readFile(join(folder, 'loop/backing_file'), 'utf8').catch(() => undefined);
  const behind = file === undefined ? undefined : await identify(file.trimEnd(), '', sys);
  if (behind !== undefined) return { ...behind, isFile: false, keys: new Set([own, ...behind.keys]) };
  const slaves = await readdir(join(folder, 'slaves')).catch(() => []);
  const isPartition = (await readFile(join(folder, 'partition')).catch(() => undefined)) !== undefined;
  const below = [...slaves.map((name) => join(folder, 'slaves', name)), ...(isPartition ? [dirname(folder)] : [])];
  const identities = await Promise.all(below.map(async (one) => await ofSysFolder(one, sys)));
  const parts = identities.flatMap((one) => [...(one?.keys ?? []), one?.born ?? []].flat());
  return { isFile: false, key: own, keys: new Set([own, ...parts]), born: undefined };
}

async function ofSysFolder(folder: string, sys: string): Promise<FileIdentity | undefined> {
  const [major, minor] = (await readFile(join(folder, 'dev'), 'utf8').catch(() => '')).trim().split(':').map(Number);
  if (major === undefined || minor === undefined) return undefined;
  return await deviceIdentity(deviceNumber(major, minor), sys);
}

/** Follows links as a process with that root would; the kernel would follow absolute ones from our own root. */
async function resolveIn(root: string, path: string): Promise<string> {
  let [done, rest] = ['', path.split('/').filter((part) => part !== '' && part !== '.')];
  for (let links = 0; rest.length > 0; ) {
    const [part = '', ...after] = rest;
    rest = after;
    if (part === '..') {
      done = done.slice(0, Math.max(done.lastIndexOf('/'), 0));
      continue;
    }
    const next = `${done}/${part}`;
    if (!(await lstat(root + next)).isSymbolicLink()) {
      done = next;
      continue;
    }
    links += 1;
    if (links > MOST_LINKS) throw new Error(`too many links in ${path}`);
    const target = await readlink(root + next);
    if (target.startsWith('/')) done = '';
    rest = [...target.split('/').filter((one) => one !== '' && one !== '.'), ...rest];
  }
  return root + (done === '' ? '/' : done);
}

/** The files of a job's disk at its begin, and those that it may get. */
export async function usedFiles(
  { kind, destination, plan }: Accepted,
  { chain }: Pick<Disk, 'chain'>,
): Promise<readonly UsedFile[]> {
  const copy = kind === 'COPY' ? destination?.path : undefined;
  const images = chain.flatMap(({ path, dataFile }) => (dataFile === '' ? [path] : [path, dataFile]));
  const disk = new Set([...images, ...filesOpenedBy(plan)].filter((path) => path !== copy));
  return await Promise.all([
    ...[...disk].map(async (path) => ({ ...(await fileNamesOf(path)), as: 'DISK' }) as const),
    ...(copy === undefined ? [] : [copy]).map(async (path) => ({ ...(await fileNamesOf(path)), as: 'COPY' }) as const),
  ]);
}

/** All known facts of the file at a path now. */
export async function fileNamesOf(path: string): Promise<FileNames> {
  const found = await identify(path);
  if (found === undefined) return { path };
  const { key, keys, born } = found;
  const isMore = keys.size > 1 || !keys.has(key);
  return { path, key, ...(isMore && { keys: [...keys] }), ...(born !== undefined && { born }) };
}
