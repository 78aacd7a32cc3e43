/** The destination's file: may it be made, and making it, and taking it back. The only writer of files but the journal. */
import { constants } from 'node:fs';
import { access, lstat, open, realpath, stat, statfs, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BlockJobError, fail } from '../core/errors.ts';
import type { Action, MadeFile } from '../core/plans/step.ts';
import { invalidField } from '../core/rules/rule.ts';
import { failureFrom } from './failures.ts';
import type { DomainGraph } from './graphs.ts';

/** Less than this left, and not even an image's metadata fits. */
const LEAST_FREE_BYTES = 1024 * 1024;

export interface NewFile {
  /** Without symbolic links: the path that was checked is the one that is made. */
  readonly path: string;
  /** A file of zero length is there. */
  readonly takeOver: boolean;
}

/** Checks that a new destination may be made at `path`. Changes nothing. */
export async function checkNewFile(
  path: string,
  allowedFolders: readonly string[],
  graphs: readonly DomainGraph[],
): Promise<NewFile> {
  await checkAllowed(path, allowedFolders);
  const folder = await inWords(dirname(path), async () => await realpath(dirname(path)));
  const real = join(folder, basename(path));
  const there = await lstat(real).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw asBlockJobError(error, path);
  });
  if (there !== undefined) {
    if (there.isDirectory()) throw invalidField('destination.file', 'names a folder; add the name of the file to make');
    // A file of zero length counts as absent. All else stays: a link may lead anywhere.
    if (!there.isFile() || there.size > 0) fail('DESTINATION_EXISTS', { path });
    const user = await userOf(real, graphs);
    if (user !== undefined) fail('DESTINATION_IN_USE', { path, by: user });
  }
  await inWords(path, async () => await access(there === undefined ? folder : real, constants.W_OK));
  const { bavail, bsize } = await inWords(path, async () => await statfs(folder));
  if (bavail * bsize < LEAST_FREE_BYTES) {
    fail('NO_SPACE', { path, why: `its file system has ${bavail * bsize} bytes left` });
  }
  return { path: real, takeOver: there !== undefined };
}

/** Says no to what is outside the allowed folders before it says anything else: what exists there is not told. */
async function checkAllowed(path: string, allowedFolders: readonly string[]): Promise<void> {
  const nearest = await nearestFolder(dirname(path));
  const allowed = await Promise.all(allowedFolders.map(async (one) => await realpath(one).catch(() => undefined)));
  const isIn = (folder: string) => nearest === folder || nearest.startsWith(folder === '/' ? '/' : `${folder}/`);
  if (!allowed.some((one) => one !== undefined && isIn(one))) fail('DESTINATION_NOT_ALLOWED', { path });
}

/** The first folder on the way up that exists, without symbolic links. */
async function nearestFolder(folder: string): Promise<string> {
  const real = await realpath(folder).catch(() => undefined);
  return real ?? (folder === '/' ? '/' : await nearestFolder(dirname(folder)));
}

/** Which disk of which domain has this file open, by whatever name. */
async function userOf(path: string, graphs: readonly DomainGraph[]): Promise<string | undefined> {
  const file = await stat(path);
  for (const { domain, graph } of graphs) {
    for (const node of graph.nodes.values()) {
      const other = node.path.startsWith('/') ? await stat(node.path).catch(() => undefined) : undefined;
      if (other?.ino === file.ino && other.dev === file.dev) return `node ${node.node} of domain ${domain}`;
    }
  }
  return undefined;
}

/**
 * Makes the file, which must not be there (O_EXCL: QEMU's own creation would truncate one), or takes over one of
 * zero length. Rejects with the file system's error; then there is no new file.
 */
export async function createFile({
  path,
  takeOver,
  sizeBytes,
  owner,
}: Extract<Action, { do: 'create-file' }>): Promise<MadeFile> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  // Only QEMU and its owner need it; the guest's data is nobody else's to read.
  const handle = await open(path, takeOver ? O_RDWR | O_NOFOLLOW : O_RDWR | O_CREAT | O_EXCL, 0o600);
  const created = !takeOver;
  try {
    if (created && owner !== undefined && process.getuid?.() === 0) await handle.chown(owner.uid, owner.gid);
    const { dev, ino, birthtimeNs, size } = await handle.stat({ bigint: true });
    if (size > 0n) fail('DESTINATION_EXISTS', { path });
    await handle.truncate(sizeBytes);
    await handle.sync();
    return { path, created, device: String(dev), inode: String(ino), birthTimeNs: String(birthtimeNs) };
  } catch (error) {
    if (created) await unlink(path);
    throw error;
  } finally {
    await handle.close();
  }
}

/** Removes a file that `createFile` made, if it is that very file still. One that was taken over becomes empty again. */
export async function removeFile(made: MadeFile): Promise<void> {
  const now = await lstat(made.path, { bigint: true }).catch(() => undefined);
  const same =
    now !== undefined &&
    String(now.ino) === made.inode &&
    String(now.dev) === made.device &&
    String(now.birthtimeNs) === made.birthTimeNs;
  if (!same) return;
  if (made.created) {
    await unlink(made.path);
    return;
  }
  const handle = await open(made.path, constants.O_RDWR | constants.O_NOFOLLOW);
  try {
    await handle.truncate(0);
  } finally {
    await handle.close();
  }
}

/** Throws DESTINATION_EXISTS for anything at `path`, whose maker is not known. */
export async function mustBeAbsent(path: string): Promise<void> {
  const there = await lstat(path).catch(() => undefined);
  if (there !== undefined) fail('DESTINATION_EXISTS', { path });
}

async function inWords<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asBlockJobError(error, path);
  }
}

function asBlockJobError(error: unknown, path: string): unknown {
  const failed = failureFrom(error, { domain: '', path, doing: 'looking at the destination' });
  return failed === undefined ? error : new BlockJobError(failed, { cause: error });
}
