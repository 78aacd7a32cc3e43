/** The open files of a process, and where its paths lead: the only proof that a file is the one that QEMU has. */
import { deviceNumber } from './device-number.ts';
import { type DiskFile, open, stat } from './disk-files.ts';
import { type FileIdentity, identify, identityOf, inRoot, overlaps } from './file-identity.ts';
import { type Mount, mountsOf } from './mounts.ts';
import { O_PATH } from './pinned-folder.ts';
import {
  descriptorsOf,
  type FileLock,
  filesAmong,
  infoOf,
  inodeIn,
  linkOf,
  mountIn,
  type OpenFile,
  shown,
} from './proc.ts';
import { foundBy } from './process-looks.ts';
import { type KernelsNumbers, mayBe } from './process-pass.ts';

/** From /proc, which does not ask a file system of disks. */
export interface OpenFiles {
  /** The root of the process's paths: '' for our own root. */
  readonly root: string;
  readonly files: readonly OpenFile[];
}

export interface SoughtFile {
  readonly identity: FileIdentity;
  /** As in OpenFile. stat reports another one for some file systems. */
  readonly inode: string | undefined;
  /** The name itself; other device nodes of a device have other names. */
  readonly name: AsKernelHas;
}

/** Undefined if /proc does not show it. */
interface AsKernelHas {
  readonly inode: string | undefined;
  readonly mount: Mount | undefined;
}

/** Undefined if /proc does not show it. */
export function openFilesOf(pid: number): OpenFiles | undefined {
  const [root, descriptors] = [rootOf(pid), descriptorsOf(pid)];
  if (root === undefined || descriptors === undefined) return undefined;
  return { root, files: filesAmong(pid, descriptors) };
}

/** The root of the paths of a process: '' for our own root; undefined if /proc does not show it. */
function rootOf(pid: number): string | undefined {
  const [own, theirs] = [linkOf('/proc/self/ns/mnt'), linkOf(`/proc/${pid}/ns/mnt`)];
  const root = linkOf(`/proc/${pid}/root`);
  if (own === undefined || theirs === undefined || root === undefined) return undefined;
  return theirs === own && root === '/' ? '' : `/proc/${pid}/root`;
}

/** Undefined if no file has this name; here, or for a process with that root. */
export async function soughtAt(path: string, root = ''): Promise<SoughtFile | undefined> {
  const identity = await identify(path, root);
  return identity && (await soughtAs(identity, await inRoot(root, path)));
}

/** `identity`: the file at the path. */
export async function soughtAs(identity: FileIdentity, path: string): Promise<SoughtFile> {
  return soughtBy(identity, await asKernelHas(path));
}

/** The open file, and nothing else that may be at its name later. */
export async function soughtIn(file: DiskFile): Promise<SoughtFile> {
  return soughtBy(await identityOf(await file.stat()), kernelsWordFor(file));
}

function soughtBy(identity: FileIdentity, name: AsKernelHas): SoughtFile {
  // A device may be open by another device node.
  return { identity, inode: identity.isFile ? name.inode : undefined, name };
}

function numbersOf({ inode, name }: SoughtFile): KernelsNumbers {
  return inode === undefined ? {} : { inode, device: name.mount?.device };
}

/** As in fdinfo. */
export async function asKernelHas(path: string): Promise<AsKernelHas> {
  await using handle = await open(path, O_PATH).catch(() => undefined);
  return handle === undefined ? { inode: undefined, mount: undefined } : kernelsWordFor(handle);
}

function kernelsWordFor({ descriptor }: DiskFile): AsKernelHas {
  const info = infoOf('self', descriptor);
  const id = mountIn(info);
  return { inode: inodeIn(info), mount: id === undefined ? undefined : mountsOf('self').get(id) };
}

export async function isOpen({ files }: Pick<OpenFiles, 'files'>, sought: SoughtFile): Promise<boolean> {
  const numbers = numbersOf(sought);
  const found = await Promise.all(
    files.filter((file) => mayBe(numbers, file)).map(async (file) => await isAt(file, sought)),
  );
  return found.includes(true);
}

async function isAt({ link }: Pick<OpenFile, 'link'>, { identity }: SoughtFile): Promise<boolean> {
  // One that was closed, or is on a file system that we may not look at: it is not the searched file.
  const there = await stat(link).catch(() => undefined);
  const isFile = there !== undefined && (there.isFile() || there.isBlockDevice());
  return isFile && overlaps(await identityOf(there), identity);
}

/** The process of this host that has the file at this path open, if /proc shows it: `pid 123 (qemu-nbd)`. Not ourselves. */
export async function processWith(path: string): Promise<string | undefined> {
  const sought = await soughtAt(path);
  return sought && (await processHaving(sought));
}

/** Like processWith. Leaves out `besides`, too; `toWrite`: only processes that may write to it. */
export async function processHaving(
  sought: SoughtFile,
  { besides, toWrite = false }: { readonly besides?: number; readonly toWrite?: boolean } = {},
): Promise<string | undefined> {
  const besidesUs = [process.pid, ...(besides === undefined ? [] : [besides])];
  const found = await foundBy({ is: 'FILE', numbers: numbersOf(sought), toWrite, besides: besidesUs });
  const has = await Promise.all(found.map(async (file) => await isAt(file, sought)));
  const pid = found[has.indexOf(true)]?.pid;
  return pid === undefined ? undefined : `pid ${pid} (${(shown(`/proc/${pid}/comm`) ?? '').trim()})`;
}

/**
 * Whether any process has this file locked, as QEMU locks its images. The kernel reports locks by its own device and
 * inode, which differ from those of `stat` on overlay and btrfs. QEMU may have been told not to lock.
 */
export function isLocked({ identity, name: { inode, mount } }: SoughtFile, locks: readonly FileLock[]): boolean {
  const own = inode === undefined || mount === undefined ? undefined : `${mount.device}:${inode}`;
  return locks.some(({ kind, major, minor, inode: locked }) => {
    const key = `${deviceNumber(major, minor)}:${locked}`;
    // udev locks devices for moments, and in another way than QEMU.
    if (!identity.isFile && kind === 'FLOCK') return false;
    return key === own || `file ${key}` === identity.key;
  });
}
