/** What a process has open, and where its paths lead: the one proof that a file which is meant is the file that QEMU has. */
import { constants } from 'node:fs';
import { readFile, readlink } from 'node:fs/promises';
import { type DiskFile, open, stat } from './disk-files.ts';
import { deviceNumber, type FileIdentity, identify, identityOf, inRoot, overlaps } from './file-identity.ts';
import { type Mount, mounts } from './mounts.ts';
import { O_PATH } from './pinned-folder.ts';
import { descriptorsOf, fileLocks, infoOf, processes } from './proc.ts';

/** As /proc tells it, which asks no file system of disks. */
export interface OpenFiles {
  /** Where the process's paths begin: '' for our own root. */
  readonly root: string;
  readonly files: readonly OpenFile[];
}

interface OpenFile {
  readonly descriptor: number;
  /** Leads to the very file, whatever is at its name. */
  readonly link: string;
  /** Its name now, and of one that has none any more its last, marked ` (deleted)`. */
  readonly name: string;
  /** As the kernel counts it; undefined before Linux 5.14. */
  readonly inode: string | undefined;
  /** The kernel's number of the mount that it was opened in. */
  readonly mount: string | undefined;
  readonly isWritable: boolean;
}

export interface SoughtFile {
  readonly identity: FileIdentity;
  /** As in OpenFile. Of some file systems stat tells another. */
  readonly inode: string | undefined;
  /** The name itself: of a device another one than that of other nodes of it. */
  readonly name: AsKernelHas;
}

/** Undefined: /proc does not tell. */
interface AsKernelHas {
  readonly inode: string | undefined;
  readonly mount: Mount | undefined;
}

/** Undefined: /proc does not show it. */
export async function openFilesOf(pid: number): Promise<OpenFiles | undefined> {
  const [root, files] = [await rootOf(pid), filesOf(pid)];
  return root === undefined || files === undefined ? undefined : { root, files };
}

/** Undefined: /proc does not show it. */
function filesOf(pid: number): readonly OpenFile[] | undefined {
  return descriptorsOf(pid)?.flatMap(({ number: descriptor, link, name }) => {
    // Sockets and their like have no path.
    if (!name.startsWith('/')) return [];
    const info = infoOf(pid, descriptor);
    // In octal; the last two bits are O_ACCMODE.
    const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? '0', 8);
    const isWritable = (flags & 3) !== constants.O_RDONLY;
    return [{ descriptor, link, name, inode: inodeIn(info), mount: mountIn(info), isWritable }];
  });
}

function mountIn(fdinfo: string): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(fdinfo)?.[1];
}

function inodeIn(fdinfo: string): string | undefined {
  return /^ino:\s*(\d+)$/m.exec(fdinfo)?.[1];
}

/** Where the paths of a process begin: '' for our own root; undefined: /proc does not tell. */
async function rootOf(pid: number): Promise<string | undefined> {
  try {
    const own = await readlink('/proc/self/ns/mnt');
    const isOurs = (await readlink(`/proc/${pid}/ns/mnt`)) === own && (await readlink(`/proc/${pid}/root`)) === '/';
    return isOurs ? '' : `/proc/${pid}/root`;
  } catch {
    return undefined;
  }
}

/** Undefined: there is no file of this name; here, or for a process whose root that is. */
export async function soughtAt(path: string, root = ''): Promise<SoughtFile | undefined> {
  const identity = await identify(path, root);
  return identity && (await soughtAs(identity, await inRoot(root, path)));
}

/** `identity`: what is at the path. */
export async function soughtAs(identity: FileIdentity, path: string): Promise<SoughtFile> {
  return soughtBy(identity, await asKernelHas(path));
}

/** What is open, and nothing else that may come to be at its name. */
export async function soughtIn(file: DiskFile): Promise<SoughtFile> {
  return soughtBy(await identityOf(await file.stat()), await kernelsWordFor(file));
}

function soughtBy(identity: FileIdentity, name: AsKernelHas): SoughtFile {
  // A device may be open by another node of it.
  return { identity, inode: identity.isFile ? name.inode : undefined, name };
}

/** As fdinfo tells it. */
export async function asKernelHas(path: string): Promise<AsKernelHas> {
  const handle = await open(path, O_PATH).catch(() => undefined);
  if (handle === undefined) return { inode: undefined, mount: undefined };
  try {
    return await kernelsWordFor(handle);
  } finally {
    await handle.close();
  }
}

async function kernelsWordFor({ descriptor }: DiskFile): Promise<AsKernelHas> {
  const info = infoOf('self', descriptor);
  const id = mountIn(info);
  return { inode: inodeIn(info), mount: id === undefined ? undefined : (await mounts()).get(id) };
}

export async function isOpen({ files }: Pick<OpenFiles, 'files'>, sought: SoughtFile): Promise<boolean> {
  // Only of these is their file system asked: that of another one may hang.
  const candidates = files.filter(({ inode, name }) => {
    const isOther = inode !== undefined && sought.inode !== undefined && inode !== sought.inode;
    // It may be a loop device over the file that is sought.
    return !isOther || name.startsWith('/dev/');
  });
  const found = await Promise.all(
    candidates.map(async ({ link }) => {
      // One that has been closed, or on a file system that we may not look at: there the file sought is not.
      const there = await stat(link).catch(() => undefined);
      const isFile = there !== undefined && (there.isFile() || there.isBlockDevice());
      return isFile && overlaps(await identityOf(there), sought.identity);
    }),
  );
  return found.includes(true);
}

/** Who of this host has the file at this path open, of the processes that /proc shows: `pid 123 (qemu-nbd)`. Not we. */
export async function processWith(path: string): Promise<string | undefined> {
  const sought = await soughtAt(path);
  return sought && (await processHaving(sought));
}

/** As processWith. Not `besides` either; `toWrite`: only who may write to it. */
export async function processHaving(
  sought: SoughtFile,
  { besides, toWrite = false }: { readonly besides?: number; readonly toWrite?: boolean } = {},
): Promise<string | undefined> {
  // Most processes have the same few open, as /dev/null: of one mount and inode each is looked at once.
  const others = new Set<string>();
  for await (const pid of processes()) {
    if (pid === process.pid || pid === besides) continue;
    const files = (filesOf(pid) ?? []).filter((file) => {
      const isKnown = file.inode !== undefined && others.has(`${file.mount}:${file.inode}`);
      return !isKnown && (file.isWritable || !toWrite);
    });
    if (!(await isOpen({ files }, sought))) {
      for (const { mount, inode } of files) others.add(`${mount}:${inode}`);
      continue;
    }
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
    return `pid ${pid} (${name.trim()})`;
  }
  return undefined;
}

/**
 * Is this file locked, as QEMU locks its images, by whomever? The kernel tells of locks by its own device and inode, which are
 * others than those of `stat` on overlay and btrfs. QEMU may have been told not to lock.
 */
export function isLocked({ identity, name: { inode, mount } }: SoughtFile): boolean {
  const own = inode === undefined || mount === undefined ? undefined : `${mount.device}:${inode}`;
  return fileLocks().some(({ kind, major, minor, inode: locked }) => {
    const key = `${deviceNumber(major, minor)}:${locked}`;
    // udev locks devices for moments, and otherwise than QEMU does.
    if (!identity.isFile && kind === 'FLOCK') return false;
    return key === own || `file ${key}` === identity.key;
  });
}
