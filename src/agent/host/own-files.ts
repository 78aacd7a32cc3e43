/**
 * The files that only this service may change: the state folder, and its own files in it. A process that can write
 * there decides which files are deleted, and one that can open the lock can keep the service out.
 */
import { constants, type Stats } from 'node:fs';
import { chmod, lstat, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileLocks } from './proc.ts';

/** For the group, and for all others. */
const OTHERS = 0o077;
const WRITING = 0o022;
const WRITING_OF_ALL = 0o002;
const ROOT = 0;

/** The owners whose files count as the service's own: root may write to any. */
export function isOwn({ uid }: { readonly uid: number | bigint }): boolean {
  return [process.geteuid?.() ?? ROOT, ROOT].includes(Number(uid));
}

/**
 * Closes a folder, and the files with these names in it, to others. Resolves to the files that they could access
 * before. Throws, in words for people, if others keep control over it.
 */
export async function closeToOthers(folder: string, names: readonly string[]): Promise<readonly string[]> {
  // A link of our own leads where we want; somebody else's may lead elsewhere tomorrow.
  mustBeOwn(await lstat(folder), 'it');
  const wasOpen = (await close(folder, 'it')) ? [folder] : [];
  for (const name of names) {
    const path = join(folder, name);
    const there = await lstat(path).catch(() => undefined);
    if (there === undefined) continue;
    mustBeOwn(there, name);
    // Its owner may have meant another file.
    const isElsewhere = there.isSymbolicLink() || (there.isFile() && there.nlink > 1);
    if (!isElsewhere && (await close(path, name))) wasOpen.push(path);
  }
  return wasOpen;
}

/** Makes an empty file if there is none. Throws if the existing file has another name, too. */
export async function makePlainFile(path: string): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  const made = await open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600).catch(() => undefined);
  // An existing file is not opened here: closing it would release each lock that this process has on it.
  await made?.close();
  const there = await lstat(path).catch(() => undefined);
  if (there !== undefined && (!there.isFile() || there.nlink > 1)) throw new Error('its lock is not a plain file');
}

function mustBeOwn(stats: Stats, what: string): void {
  if (isOwn(stats)) return;
  const us = `this is user ${process.geteuid?.() ?? ROOT}`;
  const is = stats.isSymbolicLink() ? 'is a link that belongs' : 'belongs';
  throw new Error(`${what} ${is} to user ${stats.uid}, and ${us}: run blockjobd as that user, or give it to this one`);
}

/** True if others could access it. */
async function close(path: string, what: string): Promise<boolean> {
  const before = await stat(path);
  mustBeOwn(before, what);
  if ((before.mode & OTHERS) === 0) return false;
  // Some file systems have no modes, and only root can close a folder of root, for example a volume of Kubernetes.
  await chmod(path, before.mode & 0o7700).catch(() => undefined);
  const { mode, uid } = await stat(path);
  const isRoots = uid === ROOT && process.geteuid?.() !== ROOT;
  if ((mode & (isRoots ? WRITING_OF_ALL : WRITING)) === 0) return mode !== before.mode;
  throw new Error(`others may write to ${path}, and it cannot be closed to them: chmod go-w ${path}`);
}

/** The process with SQLite's lock on this file. Undefined if /proc shows none. */
export async function lockHolder(path: string): Promise<{ pid: number; name: string; uid: number } | undefined> {
  const there = await lstat(path).catch(() => undefined);
  for (const { kind, pid, inode } of await fileLocks()) {
    if (kind !== 'POSIX' || Number(inode) !== there?.ino) continue;
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const [name, uid] = [/^Name:\s*(.*)$/m.exec(status)?.[1], /^Uid:\s*(\d+)/m.exec(status)?.[1]];
    if (name !== undefined && uid !== undefined) return { pid, name, uid: Number(uid) };
  }
  return undefined;
}
