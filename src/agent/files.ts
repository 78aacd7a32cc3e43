/**
 * Files: making a destination, taking it back, deleting what a commit has emptied. The only writer of files but the
 * journal and hold-file.
 */
import { type BigIntStats, constants } from 'node:fs';
import { dirname } from 'node:path';
import { fail } from '../core/errors.ts';
import { LEAST_HEADER_BYTES, snapshotCount } from '../core/image-header.ts';
import { PRIVATE } from '../core/plans/file-access.ts';
import type { Action, FileOwner, KnownFile, MadeFile } from '../core/plans/step.ts';
import { type DiskFile, lstat, open, stat, unlink } from './disk-files.ts';
import { identify } from './file-identity.ts';
import type { Holder } from './graphs.ts';
import { processWith } from './open-files.ts';

/**
 * Makes the file, which must not be there (O_EXCL: QEMU's own creation would truncate one), or takes over one of
 * zero length. Rejects with the file system's error; then there is no new file.
 */
export async function createFile({
  path,
  takeOver,
  sizeBytes,
  owner,
  mode = PRIVATE,
}: Extract<Action, { do: 'create-file' }>): Promise<MadeFile> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  // Nobody else may open it while it is being made.
  const handle = await open(path, takeOver ? O_RDWR | O_NOFOLLOW : O_RDWR | O_CREAT | O_EXCL, PRIVATE);
  const created = !takeOver;
  try {
    if (created && owner !== undefined && mayGiveAs(owner)) await handle.chown(owner.uid, owner.gid);
    if (created && mode !== PRIVATE) await handle.chmod(mode);
    const stats = await handle.stat();
    if (stats.size > 0n) fail('DESTINATION_EXISTS', { path });
    await handle.truncate(sizeBytes);
    await handle.sync();
    if (created) await syncFolderOf(path);
    return { ...knownAs(path, stats), created };
  } catch (error) {
    if (created) await unlink(path);
    throw error;
  } finally {
    await handle.close();
  }
}

function mayGiveAs({ uid }: FileOwner): boolean {
  return process.geteuid?.() === 0 || process.geteuid?.() === uid;
}

/** Removes a file that `createFile` made, if it is that very file still. One that was taken over becomes empty again. */
export async function removeFile(made: MadeFile): Promise<void> {
  if (!(await isStill(made))) return;
  if (made.created) {
    await unlink(made.path);
    await syncFolderOf(made.path);
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
  if (await isThere(path)) fail('DESTINATION_EXISTS', { path });
}

export async function isThere(path: string): Promise<boolean> {
  return (await whatIsAt(path)) !== undefined;
}

/** Undefined: nothing. Rejects where that cannot be told: what is not seen may be there. */
async function whatIsAt(path: string): Promise<BigIntStats | undefined> {
  return await orNothing(lstat(path));
}

async function orNothing(found: Promise<BigIntStats>): Promise<BigIntStats | undefined> {
  return await found.catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return undefined;
    throw error;
  });
}

/**
 * Deletes the image if it is that very file still. Throws DESTINATION_IN_USE if `holder` or /proc names who has it open, or if
 * it has internal snapshots that nobody has accepted to lose.
 */
export async function deleteImage(
  { image, losesSnapshots }: Pick<Extract<Action, { do: 'delete-image' }>, 'image' | 'losesSnapshots'>,
  holder: Holder,
): Promise<void> {
  if (!(await isStill(image))) return;
  if (losesSnapshots !== true && (await hasSnapshots(image.path))) {
    fail('DESTINATION_IN_USE', { path: image.path, by: 'internal snapshots, which were taken while the job ran' });
  }
  const by = (await holder(image.path)) ?? (await processWith(image.path));
  if (by !== undefined) fail('DESTINATION_IN_USE', { path: image.path, by });
  await unlink(image.path);
  await syncFolderOf(image.path);
}

/**
 * Internal snapshots in it now. Their loss is accepted or refused when a job is started; one that somebody takes while it
 * runs nobody has accepted to lose. Rejects where it cannot be told.
 */
export async function hasSnapshots(path: string): Promise<boolean> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const buffer = new Uint8Array(LEAST_HEADER_BYTES);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    return snapshotCount(buffer.subarray(0, bytesRead)) > 0;
  } finally {
    await handle.close();
  }
}

/** Opened to be synced. Undefined for what is no file or device here, or none that this service may open. */
export async function openToSync(path: string): Promise<DiskFile | undefined> {
  if (!path.startsWith('/')) return undefined;
  // A FIFO would wait for somebody who writes to it.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  const stats = await handle?.stat();
  if (stats?.isFile() === true || stats?.isBlockDevice() === true) return handle;
  await handle?.close();
  return undefined;
}

/** Rejects with the file system's error. */
export async function syncFile(path: string): Promise<void> {
  const handle = await openToSync(path);
  try {
    await handle?.sync();
  } finally {
    await handle?.close();
  }
}

/** A name that is new or gone is so after a power cut only if its folder is synced. */
async function syncFolderOf(path: string): Promise<void> {
  // Not every file system has folders that can be opened or synced; those names are as stable as they can be.
  const handle = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY).catch(() => undefined);
  try {
    await handle?.sync().catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'EINVAL')) throw error;
    });
  } finally {
    await handle?.close();
  }
}

/** Of file systems that keep none. */
const NO_BIRTH_TIME = '0';

export function knownAs(path: string, { dev, ino, birthtimeNs }: BigIntStats): KnownFile {
  return { path, device: String(dev), inode: String(ino), birthTimeNs: String(birthtimeNs) };
}

/** Rejects where it cannot be told. */
export async function isStill(file: KnownFile): Promise<boolean> {
  const now = await whatIsAt(file.path);
  return now !== undefined && isThat(file, now);
}

function isThat(file: KnownFile, now: BigIntStats): boolean {
  const { device, inode, birthTimeNs } = knownAs(file.path, now);
  if (inode !== file.inode || birthTimeNs !== file.birthTimeNs) return false;
  // A disk's number may be another one after a boot, or where it was mounted again.
  return device === file.device || birthTimeNs !== NO_BIRTH_TIME;
}

/** Who opens it by its name finds that very file: a link may lead there, too. Rejects where it cannot be told. */
export async function isFoundAs(file: KnownFile): Promise<boolean> {
  const now = await orNothing(stat(file.path));
  return now !== undefined && isThat(file, now);
}

/** The same for each name of one file or device; of what is no file that is there, the name itself. */
export async function fileKey(path: string): Promise<string> {
  return (await identify(path))?.key ?? path;
}
