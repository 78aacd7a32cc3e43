/**
 * The process behind a QMP socket. The name of a domain can be given to a new QEMU at once; a pid together with its
 * start time is unique until the host boots.
 */
import { readdir, readFile, realpath } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import type { QemuProcess } from '../../core/job/qemu-identity.ts';
import type { FileOwner } from '../../core/job/step.ts';
import { Rounds } from '../../lib/rounds.ts';
import { inTime } from '../../lib/timer.ts';
import { linkOf, processes, shown } from '../host/proc.ts';
import { foundBy } from '../host/process-looks.ts';
import { FIRST_NAMESPACE, isProcessThere, showsAll, sight } from '../host/sight.ts';

export interface ProcessFacts {
  readonly process: QemuProcess;
  /** The working directory: QEMU's file names may be relative to it. */
  readonly workingDirectory: string;
  /** The user with which it opens files. */
  readonly owner: FileOwner;
}

/** The flag of a listening socket in /proc/net/unix (__SO_ACCEPTCON). */
const LISTENING = 0x10000;

/** A file system that hangs must not keep everybody from being found: its socket is taken by its name. */
const REAL_PATH_MS = 1000;

/**
 * Finds the process that listens on a socket; the last one if several took its name one after the other. Undefined if
 * /proc does not show it: another user's process and we are not root, another pid or network namespace, or nobody
 * listens any more. One look at /proc serves all who ask before it begins.
 */
export async function findListener(socketPath: string): Promise<ProcessFacts | undefined> {
  return await looks.ask(socketPath);
}

const looks = new Rounds(findListeners);

async function findListeners(socketPaths: readonly string[]): Promise<readonly (ProcessFacts | undefined)[]> {
  const wanted = await Promise.all(socketPaths.map(realSocket));
  const known = new Map(socketPaths.map((path, at) => [path, wanted[at]]));
  const found = new Map(wanted.map((path): [string, ProcessFacts[]] => [path, []]));
  const names = new Set(wanted.map((path) => basename(path)));
  // They have the same name. Only the process knows the folder of a relative name.
  const links = new Map<string, string>();
  for (const { inode, path } of await listeningSockets()) {
    if (!names.has(basename(path))) continue;
    const real = isAbsolute(path) ? (known.get(path) ?? (await realSocket(path))) : path;
    if (!isAbsolute(path) || found.has(real)) links.set(`socket:[${inode}]`, real);
  }
  const bound = links.size === 0 ? [] : await foundBy({ is: 'SOCKETS', names: new Set(links.keys()) });
  const listening = new Map<number, Promise<ProcessFacts | undefined>>();
  for (const { pid, name } of bound) {
    const path = links.get(name);
    if (path === undefined) continue;
    const asked = listening.get(pid) ?? factsOf(pid);
    listening.set(pid, asked);
    const facts = await asked;
    if (facts === undefined) continue;
    const real = isAbsolute(path) ? path : await realSocket(resolve(facts.workingDirectory, path));
    const listeners = found.get(real);
    if (listeners === undefined) continue;
    // Other holders have inherited it from this one.
    links.delete(name);
    listeners.push(facts);
  }
  // A socket that has lost its name to a later one still reports that name.
  const newest = (one: ProcessFacts, other: ProcessFacts) =>
    Number(other.process.startTime) - Number(one.process.startTime);
  return wanted.map((path) => found.get(path)?.toSorted(newest)[0]);
}

/** The path of the socket without symbolic links: /var/run is /run, and each may be the one that was bound. */
async function realSocket(path: string): Promise<string> {
  const real = await realPath(path);
  if (real !== undefined) return real;
  // Its file may have been removed.
  return join((await realPath(dirname(path))) ?? dirname(path), basename(path));
}

async function realPath(path: string): Promise<string | undefined> {
  return await inTime(realpath(path), REAL_PATH_MS);
}

async function listeningSockets(): Promise<{ inode: string; path: string }[]> {
  // Not /proc/net, which is a link to this, and does not exist if a service manager shows only processes in /proc.
  const lines = await readFile('/proc/self/net/unix', 'utf8').catch(() => '');
  return lines.split('\n').flatMap((line) => {
    // Num RefCount Protocol Flags Type St Inode Path
    const [, , , flags, , , inode, ...path] = line.trim().split(/\s+/);
    if (flags === undefined || inode === undefined || path.length === 0) return [];
    return (Number.parseInt(flags, 16) & LISTENING) === 0 ? [] : [{ inode, path: path.join(' ') }];
  });
}

async function factsOf(pid: number): Promise<ProcessFacts | undefined> {
  const stat = statOf(pid);
  const workingDirectory = linkOf(`/proc/${pid}/cwd`);
  const status = shown(`/proc/${pid}/status`) ?? '';
  const uid = fileSystemId(status, 'Uid');
  const gid = fileSystemId(status, 'Gid');
  if (stat === undefined || stat.isDead || workingDirectory === undefined || uid === undefined || gid === undefined) {
    return undefined;
  }
  const { bootId, pidNamespace } = await sight();
  const seenFrom = { ...(bootId !== undefined && { bootId }), ...(pidNamespace !== undefined && { pidNamespace }) };
  return { process: { pid, startTime: stat.startTime, ...seenFrom }, workingDirectory, owner: { uid, gid } };
}

/** The last of real, effective, saved and file system id: the one for access to files. */
function fileSystemId(status: string, which: 'Uid' | 'Gid'): number | undefined {
  const found = new RegExp(`^${which}:\\s+\\d+\\s+\\d+\\s+\\d+\\s+(\\d+)`, 'm').exec(status)?.[1];
  return found === undefined ? undefined : Number(found);
}

/** The process in /proc. Undefined if it is not shown, whether it exists or not. */
function statOf(pid: number): { readonly startTime: string; readonly isDead: boolean } | undefined {
  const stat = shown(`/proc/${pid}/stat`);
  // The name of the command is in parentheses and may hold anything; the fields after it do not.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const startTime = fields?.[19];
  return startTime === undefined ? undefined : { startTime, isDead: fields?.[0] === 'Z' || fields?.[0] === 'X' };
}

/** Whether this is one of its threads, as numbered in its innermost pid namespace. */
export async function hasThread(pid: number, thread: number): Promise<boolean> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const found = threads.map(async (one) => {
    const status = await readFile(`/proc/${pid}/task/${one}/status`, 'utf8').catch(() => '');
    return Number(/^NSpid:.*?(\d+)$/m.exec(status)?.[1]) === thread;
  });
  return (await Promise.all(found)).includes(true);
}

/**
 * Whether these two are one process. UNKNOWN if one of them is not known, or if they were seen from namespaces whose
 * numbers do not compare.
 */
export function compareProcesses(
  one: QemuProcess | undefined,
  other: QemuProcess | undefined,
): 'SAME' | 'OTHER' | 'UNKNOWN' {
  if (one === undefined || other === undefined) return 'UNKNOWN';
  if (one.bootId !== undefined && other.bootId !== undefined && one.bootId !== other.bootId) return 'OTHER';
  const isEqual = one.pid === other.pid && one.startTime === other.startTime;
  const isOfOnePlace = one.pidNamespace !== undefined && one.pidNamespace === other.pidNamespace;
  if (isOfOnePlace) return isEqual ? 'SAME' : 'OTHER';
  // Older journals do not record the namespace, but equal numbers are not a coincidence.
  const isOfTwoPlaces = one.pidNamespace !== undefined && other.pidNamespace !== undefined;
  return isEqual && !isOfTwoPlaces ? 'SAME' : 'UNKNOWN';
}

/**
 * ENDED is proved: by another boot, or by the kernel, which has no such process in the namespace of the record. A
 * process that /proc does not show may still exist.
 */
export async function processPresence(process: QemuProcess): Promise<'UP' | 'ENDED' | 'UNKNOWN'> {
  const { bootId, pidNamespace } = await sight();
  if (process.bootId !== undefined && bootId !== undefined && process.bootId !== bootId) return 'ENDED';
  if (process.pidNamespace === undefined) return await presenceOfOlder(process, pidNamespace);
  if (process.pidNamespace !== pidNamespace) return 'UNKNOWN';
  if (!isProcessThere(process.pid)) return 'ENDED';
  const stat = statOf(process.pid);
  if (stat === undefined) return 'UNKNOWN';
  return stat.isDead || stat.startTime !== process.startTime ? 'ENDED' : 'UP';
}

/**
 * A journal without the namespace. The absence of a process with this pid proves nothing: the service may have been in
 * a container then. The absence of this start time among all processes of the host does.
 */
async function presenceOfOlder({ pid, startTime }: QemuProcess, from: string | undefined) {
  const stat = statOf(pid);
  if (stat?.startTime === startTime && !stat.isDead) return 'UP';
  if (from !== FIRST_NAMESPACE || !(await showsAll())) return 'UNKNOWN';
  for (const one of processes()) {
    const found = statOf(one);
    if (found === undefined ? isProcessThere(one) : found.startTime === startTime && !found.isDead) return 'UNKNOWN';
  }
  return 'ENDED';
}

/** QEMU's name of a file as an absolute path; a URI stays as it is. `folder`: QEMU's working directory. */
export function absoluteIn(folder: string | undefined): (file: string) => string {
  return (file) => {
    const plain = folder !== undefined && file !== '' && !/^[a-z+]+:/i.test(file);
    return plain ? resolve(folder, file) : file;
  };
}
