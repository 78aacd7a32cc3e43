/**
 * What only this service may change: the state folder, and what it needs in it. Whoever can write there decides which files are
 * deleted, and whoever can open the lock can keep the service out.
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

/** Whose files are taken for this service's own: root may write to any. */
export function isOwn({ uid }: { readonly uid: number | bigint }): boolean {
  return [process.geteuid?.() ?? ROOT, ROOT].includes(Number(uid));
}

/**
 * Closes a folder, and what is already in it of these names, to others. Resolves to what they could get at before. Throws, in
 * words for people, where others keep a say in it.
 */
export async function closeToOthers(folder: string, names: readonly string[]): Promise<readonly string[]> {
  // A link of our own leads where we want it; another's may lead elsewhere tomorrow.
  mustBeOwn(await lstat(folder), 'it');
  const wasOpen = (await close(folder, 'it')) ? [folder] : [];
  for (const name of names) {
    const path = join(folder, name);
    const there = await lstat(path).catch(() => undefined);
    if (there === undefined) continue;
    mustBeOwn(there, name);
    // Who put it there may have meant another file.
    const isElsewhere = there.isSymbolicLink() || (there.isFile() && there.nlink > 1);
    if (!isElsewhere && (await close(path, name))) wasOpen.push(path);
  }
  return wasOpen;
}

/** Makes an empty file where there is none. Throws for all but a file that has no other name. */
export async function makePlainFile(path: string): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  const made = await open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600).catch(() => undefined);
  // One that was there is not opened here: to close it again would end each lock that this process has on it.
  await made?.close();
  const there = await lstat(path).catch(() => undefined);
  if (there !== undefined && (!there.isFile() || there.nlink > 1)) throw new Error('its lock is no plain file');
}

function mustBeOwn(stats: Stats, what: string): void {
  if (isOwn(stats)) return;
  const us = `this is user ${process.geteuid?.() ?? ROOT}`;
  const is = stats.isSymbolicLink() ? 'is a link that belongs' : 'belongs';
  throw new Error(`${what} ${is} to user ${stats.uid}, and ${us}: run blockjobd as that user, or give it to this one`);
}

/** True: others could get at it. */
async function close(path: string, what: string): Promise<boolean> {
  const before = await stat(path);
  mustBeOwn(before, what);
  if ((before.mode & OTHERS) === 0) return false;
  // Not each file system has modes, and what is root's, as a volume of Kubernetes, only root can close.
  await chmod(path, before.mode & 0o7700).catch(() => undefined);
  const { mode, uid } = await stat(path);
  const isRoots = uid === ROOT && process.geteuid?.() !== ROOT;
  if ((mode & (isRoots ? WRITING_OF_ALL : WRITING)) === 0) return mode !== before.mode;
  throw new Error(`others may write to ${path}, and it cannot be closed to them: chmod go-w ${path}`);
}

/** Which process has a lock on this file, as SQLite takes it. Undefined: none that /proc shows. */
export async function lockHolder(path: string): Promise<{ pid: number; name: string; uid: number } | undefined> {
  const there = await lstat(path).catch(() => undefined);
  for (const { kind, pid, inode } of fileLocks()) {
    if (kind !== 'POSIX' || Number(inode) !== there?.ino) continue;
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const [name, uid] = [/^Name:\s*(.*)$/m.exec(status)?.[1], /^Uid:\s*(\d+)/m.exec(status)?.[1]];
    if (name !== undefined && uid !== undefined) return { pid, name, uid: Number(uid) };
  }
  return undefined;
}
