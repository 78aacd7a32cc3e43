/**
 * The processes of this host, from /proc. It is kernel memory, so all but the locks are read synchronously: a thread for
 * each of hundreds of looks would be most of the cost of a start.
 */
import { constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

export interface Descriptor {
  readonly number: number;
  /** Leads to the very file, whatever is at its name. */
  readonly link: string;
  /** The kernel's name for it: a path, or `socket:[4711]` and the like. */
  readonly name: string;
}

export interface OpenFile {
  readonly pid: number;
  readonly descriptor: number;
  /** Leads to the very file, whatever is at its name. */
  readonly link: string;
  /** Its present name; its last one, marked ` (deleted)`, if it has none any more. */
  readonly name: string;
  /** The kernel's number; undefined before Linux 5.14. */
  readonly inode: string | undefined;
  /** The kernel's number of the mount in which it was opened. */
  readonly mount: string | undefined;
  readonly isWritable: boolean;
}

/** All processes that /proc shows. */
export function processes(): readonly number[] {
  return (ifShown(() => readdirSync('/proc')) ?? []).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Undefined if /proc does not show them. */
export function descriptorsOf(pid: number): readonly Descriptor[] | undefined {
  const numbers = ifShown(() => readdirSync(`/proc/${pid}/fd`));
  const found: Descriptor[] = [];
  for (const number of numbers ?? []) {
    const link = `/proc/${pid}/fd/${number}`;
    try {
      found.push({ number: Number(number), link, name: readlinkSync(link) });
    } catch (error) {
      // It may be closed meanwhile. But the kernel shows all of them to a process, or none.
      if (error instanceof Error && 'code' in error && error.code === 'EACCES') break;
    }
  }
  return numbers && found;
}

/** Sockets and the like have no path. */
export function filesAmong(pid: number, descriptors: readonly Descriptor[]): readonly OpenFile[] {
  return descriptors.flatMap(({ number: descriptor, link, name }) => {
    if (!name.startsWith('/')) return [];
    const info = infoOf(pid, descriptor);
    // In octal; the last two bits are O_ACCMODE.
    const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? '0', 8);
    const isWritable = (flags & 3) !== constants.O_RDONLY;
    return [{ pid, descriptor, link, name, inode: inodeIn(info), mount: mountIn(info), isWritable }];
  });
}

export function mountIn(fdinfo: string): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(fdinfo)?.[1];
}

export function inodeIn(fdinfo: string): string | undefined {
  return /^ino:\s*(\d+)$/m.exec(fdinfo)?.[1];
}

/** The kernel's facts of an open descriptor; '' if there are none. */
export function infoOf(pid: number | 'self', descriptor: number): string {
  return shown(`/proc/${pid}/fdinfo/${descriptor}`) ?? '';
}

/** Undefined if it is not shown here. */
export function shown(path: string): string | undefined {
  return ifShown(() => readFileSync(path, 'utf8'));
}

/** The target of a link in /proc. Undefined if it is not shown here. */
export function linkOf(path: string): string | undefined {
  return ifShown(() => readlinkSync(path));
}

/** Unique for each boot. Undefined if /proc shows only processes. */
export function bootId(): string | undefined {
  return shown('/proc/sys/kernel/random/boot_id')?.trim();
}

export interface FileLock {
  /** POSIX, FLOCK, OFDLCK, LEASE. */
  readonly kind: string;
  /** -1 if it belongs to no single process. */
  readonly pid: number;
  readonly major: number;
  readonly minor: number;
  readonly inode: string;
}

/**
 * The locks that processes have, and those that they wait for. The kernel stops all lock calls of the host to list them,
 * and may wait milliseconds for that.
 */
export async function fileLocks(): Promise<readonly FileLock[]> {
  const text = await readFile('/proc/locks', 'utf8').catch(() => '');
  const found = text.matchAll(/(\w+) +\w+ +\w+ +(-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) /g);
  return [...found].map(([, kind = '', pid, major = '', minor = '', inode = '']) => ({
    kind,
    pid: Number(pid),
    major: Number.parseInt(major, 16),
    minor: Number.parseInt(minor, 16),
    inode,
  }));
}

/**
 * For a fileLocks that comes soon. The first list waits until all processors have left the code for locks, some ten
 * milliseconds. The kernel then lets the next one in at once, for about as long.
 */
export function expectFileLocks(): void {
  void fileLocks();
}

function ifShown<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
