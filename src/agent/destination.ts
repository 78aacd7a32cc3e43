/** The destination's file: may it be made, and making it, and taking it back. The only writer of files but the journal. */
import { constants } from 'node:fs';
import { access, lstat, open, realpath, stat, statfs, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { BlockGraph } from '../core/chain.ts';
import { BlockJobError, fail } from '../core/errors.ts';
import type { FileOwner, MadeFile } from '../core/plans/step.ts';
import { failureFrom } from './failures.ts';

/** Less than this left, and not even an image's metadata fits. */
const LEAST_FREE_BYTES = 1024 * 1024;

/**
 * Checks that a new destination may be made at `path`, and gives its path without symbolic links: the one that
 * is checked is the one that is made. Changes nothing.
 */
export async function checkNewFile(
  path: string,
  allowedFolders: readonly string[],
  graphs: readonly { readonly domain: string; readonly graph: BlockGraph }[],
): Promise<string> {
  const folder = await inWords(dirname(path), async () => await realpath(dirname(path)));
  const real = join(folder, basename(path));
  const allowed = await Promise.all(allowedFolders.map(async (one) => await realpath(one).catch(() => undefined)));
  if (
    !allowed.some((one) => one !== undefined && (folder === one || folder.startsWith(one === '/' ? one : `${one}/`)))
  ) {
    fail('DESTINATION_NOT_ALLOWED', { path });
  }
  const there = await lstat(real).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw asBlockJobError(error, path);
  });
  if (there !== undefined) {
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
  return real;
}

/** Which disk of which domain has this file open, by whatever name. */
async function userOf(
  path: string,
  graphs: readonly { readonly domain: string; readonly graph: BlockGraph }[],
): Promise<string | undefined> {
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
export async function createFile(path: string, sizeBytes: number, owner: FileOwner | undefined): Promise<MadeFile> {
  const { handle, created } = await openNew(path);
  try {
    if (created && owner !== undefined && process.getuid?.() === 0) await handle.chown(owner.uid, owner.gid);
    const { dev, ino, size } = await handle.stat({ bigint: true });
    if (size > 0n) fail('DESTINATION_EXISTS', { path });
    await handle.truncate(sizeBytes);
    await handle.sync();
    return { path, created, device: String(dev), inode: String(ino) };
  } catch (error) {
    if (created) await unlink(path);
    throw error;
  } finally {
    await handle.close();
  }
}

async function openNew(path: string) {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    // Only QEMU and its owner need it; the guest's data is nobody else's to read.
    return { handle: await open(path, O_RDWR | O_CREAT | O_EXCL, 0o600), created: true };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    const handle = await open(path, O_RDWR | O_NOFOLLOW);
    const { size } = await handle.stat();
    if (size === 0) return { handle, created: false };
    await handle.close();
    return fail('DESTINATION_EXISTS', { path });
  }
}

/**
 * Removes a file that `createFile` made, known by its inode: one that has another inode by now is somebody
 * else's and stays. One that was taken over becomes empty again.
 */
export async function removeFile(made: MadeFile): Promise<void> {
  const now = await lstat(made.path, { bigint: true }).catch(() => undefined);
  if (now === undefined || String(now.ino) !== made.inode || String(now.dev) !== made.device) return;
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
