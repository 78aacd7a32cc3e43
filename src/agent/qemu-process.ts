/**
 * Which process is behind a QMP socket. A domain's name can be given to a new QEMU at once; a pid together with
 * its start time is never given again until the host boots.
 */
import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { QemuProcess } from '../core/journal-entry.ts';
import type { FileOwner } from '../core/plans/step.ts';

export interface ProcessFacts {
  readonly process: QemuProcess;
  /** File names that QEMU was given may be relative to this. */
  readonly workingDirectory: string;
  /** As whom it opens files. */
  readonly owner: FileOwner;
}

/** The flag of a listening socket in /proc/net/unix (__SO_ACCEPTCON). */
const LISTENING = 0x10000;

/**
 * Finds the process that listens on a socket; of several that took its name one after the other, the last. Undefined
 * where /proc does not tell: another user's process and we are not root, another pid or network namespace, or nobody
 * listens any more.
 */
export async function findListener(socketPath: string): Promise<ProcessFacts | undefined> {
  const wanted = await realSocket(socketPath);
  const listeners = await listeningSockets();
  const candidates = listeners.filter((socket) => basename(socket.path) === basename(socketPath));
  if (candidates.length === 0) return undefined;
  const links = new Map(candidates.map((socket) => [`socket:[${socket.inode}]`, socket.path]));
  const found = new Map<string, ProcessFacts>();
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const bound = await socketsOf(pid, links);
    const facts = bound.length === 0 ? undefined : await factsOf(Number(pid));
    if (facts === undefined) continue;
    for (const { link, path } of bound) {
      const isWanted = (await realSocket(resolve(facts.workingDirectory, path))) === wanted;
      if (isWanted && !found.has(link)) found.set(link, facts);
    }
  }
  // A socket that has lost its name to a later one still says that it has it.
  const [newest] = [...found.values()].toSorted((a, b) => Number(b.process.startTime) - Number(a.process.startTime));
  return newest;
}

/** The socket's path without symbolic links on the way: /var/run is /run, and each may be the one that was bound. */
async function realSocket(path: string): Promise<string> {
  const folder = await realpath(dirname(path)).catch(() => dirname(path));
  return join(folder, basename(path));
}

async function listeningSockets(): Promise<{ inode: string; path: string }[]> {
  // Not /proc/net, which is a link to this, and is missing where a service manager shows processes alone in /proc.
  const lines = await readFile('/proc/self/net/unix', 'utf8').catch(() => '');
  return lines.split('\n').flatMap((line) => {
    // Num RefCount Protocol Flags Type St Inode Path
    const [, , , flags, , , inode, ...path] = line.trim().split(/\s+/);
    if (flags === undefined || inode === undefined || path.length === 0) return [];
    return (Number.parseInt(flags, 16) & LISTENING) === 0 ? [] : [{ inode, path: path.join(' ') }];
  });
}

async function socketsOf(
  pid: string,
  links: ReadonlyMap<string, string>,
): Promise<readonly { readonly link: string; readonly path: string }[]> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const targets = await Promise.all(
    descriptors.map(async (descriptor) => await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => '')),
  );
  return targets.flatMap((link) => {
    const path = links.get(link);
    return path === undefined ? [] : [{ link, path }];
  });
}

async function factsOf(pid: number): Promise<ProcessFacts | undefined> {
  const startTime = await startTimeOf(pid);
  const workingDirectory = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const uid = fileSystemId(status, 'Uid');
  const gid = fileSystemId(status, 'Gid');
  if (startTime === undefined || workingDirectory === undefined || uid === undefined || gid === undefined) {
    return undefined;
  }
  return { process: { pid, startTime }, workingDirectory, owner: { uid, gid } };
}

/** The last of real, effective, saved and file system id: the one that counts for files. */
function fileSystemId(status: string, which: 'Uid' | 'Gid'): number | undefined {
  const found = new RegExp(`^${which}:\\s+\\d+\\s+\\d+\\s+\\d+\\s+(\\d+)`, 'm').exec(status)?.[1];
  return found === undefined ? undefined : Number(found);
}

/** Undefined for a process that has ended, a zombie too. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch((error: unknown) => {
    // That there is no file to spare for looking says nothing of the process.
    if (!(error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')))
      throw error;
    return undefined;
  });
  if (stat === undefined) return undefined;
  // The command's name is in parentheses and may hold anything; the fields after it do not.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  return state === 'Z' || state === 'X' ? undefined : fields[19];
}

export function isSame(one: QemuProcess, other: QemuProcess): boolean {
  return one.pid === other.pid && one.startTime === other.startTime;
}

/** Is this very process still there? */
export async function isAlive(process: QemuProcess): Promise<boolean> {
  return (await startTimeOf(process.pid)) === process.startTime;
}
