/**
 * The processes of this host, from /proc. It is kernel memory and never blocks, so it is read synchronously: a thread
 * for each of hundreds of looks would be most of the cost of a start.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';

export interface Descriptor {
  readonly number: number;
  /** Leads to the very file, whatever is at its name. */
  readonly link: string;
  /** The kernel's name for it: a path, or `socket:[4711]` and the like. */
  readonly name: string;
}

/** How long a look at all processes keeps everybody else waiting. */
const LOOK_MS = 1;

/** For all processes that /proc shows. On a host with many VMs this takes long: calls are answered in between. */
export async function* processes(): AsyncGenerator<number> {
  let since = performance.now();
  for (const name of ifShown(() => readdirSync('/proc')) ?? []) {
    if (!/^\d+$/.test(name)) continue;
    if (performance.now() - since > LOOK_MS) {
      await setImmediate();
      since = performance.now();
    }
    yield Number(name);
  }
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

/** The locks that processes have, and those that they wait for. */
export function fileLocks(): readonly FileLock[] {
  const found = (shown('/proc/locks') ?? '').matchAll(/(\w+) +\w+ +\w+ +(-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) /g);
  return [...found].map(([, kind = '', pid, major = '', minor = '', inode = '']) => ({
    kind,
    pid: Number(pid),
    major: Number.parseInt(major, 16),
    minor: Number.parseInt(minor, 16),
    inode,
  }));
}

function ifShown<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
