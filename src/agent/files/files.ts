/**
 * Files: makes a destination, removes it again, deletes an image that a commit has emptied. Apart from the journal and
 * hold-file, only this writes files.
 */
import { type BigIntStats, constants } from 'node:fs';
import { dirname } from 'node:path';
import { LEAST_HEADER_BYTES, snapshotCount } from '../../core/disk/image-header.ts';
import { fail } from '../../core/errors.ts';
import type { Action, FileOwner, KnownFile, MadeFile } from '../../core/job/step.ts';
import { NO_BIRTH_TIME } from '../../core/job/used-file.ts';
import { PRIVATE } from '../../core/plans/file-access.ts';
import { allDone } from '../../lib/all-done.ts';
import { type DiskFile, lstat, open, stat } from '../host/disk-files.ts';
import { identify } from '../host/file-identity.ts';
import { processWith } from '../host/open-files.ts';
import { PinnedFolder } from '../host/pinned-folder.ts';
import type { Holders } from '../qemu/graphs.ts';

export interface Made {
  readonly made: MadeFile;
  /** The folder of the file; the receiver closes it. */
  readonly folder: PinnedFolder;
}

/**
 * Makes the file, which must not exist (O_EXCL: QEMU's own creation would truncate it), or takes over an empty one.
 * Rejects with the file system's error, or with PATH_REPLACED; then there is no new file.
 */
export async function createFile(action: Extract<Action, { do: 'create-file' }>): Promise<Made> {
  const folder = await PinnedFolder.of(action.path);
  try {
    return { made: await createIn(folder, action), folder };
  } catch (error) {
    await folder[Symbol.asyncDispose]();
    throw error;
  }
}

async function createIn(
  folder: PinnedFolder,
  { path, takeOver, sizeBytes, owner, mode = PRIVATE }: Extract<Action, { do: 'create-file' }>,
): Promise<MadeFile> {
  const { O_RDWR, O_CREAT, O_EXCL } = constants;
  // No other process may open it while it is being made.
  await using handle = await folder.open(path, takeOver ? O_RDWR : O_RDWR | O_CREAT | O_EXCL, PRIVATE);
  const created = !takeOver;
  const stats = await handle.stat();
  try {
    if (created && owner !== undefined && mayGiveAs(owner)) await handle.chown(owner.uid, owner.gid);
    if (created && mode !== PRIVATE) await handle.chmod(mode);
    if (stats.size > 0n) fail('DESTINATION_EXISTS', { path });
    await handle.truncate(sizeBytes);
    // Neither has to wait for the other.
    await allDone(handle.sync(), ...(created ? [folder.sync()] : []));
    return { ...knownAs(path, stats), created };
  } catch (error) {
    if (created) await removeIn(folder, knownAs(path, stats));
    throw error;
  }
}

function mayGiveAs({ uid }: FileOwner): boolean {
  return process.geteuid?.() === 0 || process.geteuid?.() === uid;
}

/**
 * Removes a file that `createFile` made, if it is still that very file. One that was taken over becomes empty again.
 * `madeIn`: the folder, held open since then; otherwise it is found by its name.
 */
export async function removeFile(made: MadeFile, madeIn?: PinnedFolder): Promise<void> {
  await using found = madeIn === undefined ? await folderOf(made.path) : undefined;
  const folder = madeIn ?? found;
  if (folder === undefined) return;
  if (made.created) {
    await removeIn(folder, made);
    return;
  }
  if (!(await isIn(folder, made))) return;
  await using handle = await folder.open(made.path, constants.O_RDWR | constants.O_NONBLOCK);
  if (isSame(made, await handle.stat())) await handle.truncate(0);
}

async function removeIn(folder: PinnedFolder, file: KnownFile): Promise<void> {
  if (!(await isIn(folder, file))) return;
  await folder.unlink(file.path);
  await folder.sync();
}

async function isIn(folder: PinnedFolder, file: KnownFile): Promise<boolean> {
  const there = await folder.lstat(file.path);
  return there !== undefined && isSame(file, there);
}

/** Undefined if it does not exist. Rejects if that cannot be determined. */
async function folderOf(path: string): Promise<PinnedFolder | undefined> {
  return await PinnedFolder.open(dirname(path)).catch(ifAbsent);
}

/** For errors of a look. Throws all others: an unseen file may exist. */
function ifAbsent(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
    return undefined;
  throw error;
}

export async function isThere(path: string): Promise<boolean> {
  return (await whatIsAt(path)) !== undefined;
}

/** Undefined if nothing is there. Rejects if that cannot be determined. */
async function whatIsAt(path: string): Promise<BigIntStats | undefined> {
  return await lstat(path).catch(ifAbsent);
}

/**
 * Deletes the image if it is still that very file. Throws DESTINATION_IN_USE if `holder` or /proc names a process that
 * has it open, or if it has internal snapshots that the caller has not accepted to lose.
 */
export async function deleteImage(
  { image, losesSnapshots }: Pick<Extract<Action, { do: 'delete-image' }>, 'image' | 'losesSnapshots'>,
  holder: Holders,
): Promise<void> {
  await using folder = await folderOf(image.path);
  if (folder === undefined || !(await isIn(folder, image))) return;
  if (losesSnapshots !== true && (await hasSnapshots(folder.in(image.path)))) {
    fail('DESTINATION_IN_USE', { path: image.path, by: 'internal snapshots, which were taken while the job ran' });
  }
  // By its name, and as the file to be deleted, wherever the name leads.
  const here = folder.in(image.path);
  const by = (await holder(image.path)) ?? (await holder(here)) ?? (await processWith(here));
  if (by !== undefined) fail('DESTINATION_IN_USE', { path: image.path, by });
  await removeIn(folder, image);
}

/**
 * Its present internal snapshots. The caller accepts or refuses their loss at the start of a job, but not of those
 * taken during it. Rejects if they cannot be determined.
 */
export async function hasSnapshots(path: string): Promise<boolean> {
  await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const buffer = new Uint8Array(LEAST_HEADER_BYTES);
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
  return snapshotCount(buffer.subarray(0, bytesRead)) > 0;
}

/** Opens it for a sync. Undefined if it is not a file or device here, or if this service may not open it. */
export async function openToSync(path: string): Promise<DiskFile | undefined> {
  if (!path.startsWith('/')) return undefined;
  // Opening a FIFO would wait for a writer.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  const stats = await handle?.stat();
  if (stats?.isFile() === true || stats?.isBlockDevice() === true) return handle;
  await handle?.close();
  return undefined;
}

/** Rejects with the file system's error. */
export async function syncFile(path: string): Promise<void> {
  await using handle = await openToSync(path);
  await handle?.sync();
}

export function knownAs(path: string, { dev, ino, birthtimeNs }: BigIntStats): KnownFile {
  return { path, device: String(dev), inode: String(ino), birthTimeNs: String(birthtimeNs) };
}

/** Rejects if it cannot be determined. */
export async function isStill(file: KnownFile): Promise<boolean> {
  const now = await whatIsAt(file.path);
  return now !== undefined && isSame(file, now);
}

export function isSame(file: KnownFile, now: BigIntStats): boolean {
  const { device, inode, birthTimeNs } = knownAs(file.path, now);
  if (inode !== file.inode || birthTimeNs !== file.birthTimeNs) return false;
  // A device may have another number after a boot, or after another mount.
  return device === file.device || birthTimeNs !== NO_BIRTH_TIME;
}

/** Whether its name leads to that very file, perhaps by a link. Rejects if it cannot be determined. */
export async function isFoundAs(file: KnownFile): Promise<boolean> {
  const now = await stat(file.path).catch(ifAbsent);
  if (now === undefined) return false;
  const { device, inode } = knownAs(file.path, now);
  // NFS and similar file systems have another number at each mount, and no birth time: the same name and inode must do.
  const isMountedAgain = inode === file.inode && [device, file.device].every(isNumberedAtMount);
  return isSame(file, now) || (isMountedAgain && file.birthTimeNs === NO_BIRTH_TIME);
}

/** Its file system is not on a disk of this host: the kernel gives it the next number of major 0 (include/linux/fs.h). */
function isNumberedAtMount(device: string): boolean {
  return ((BigInt(device) >> 8n) & 0xfffn) === 0n;
}

/** The same for each name of a file or device; the name itself if no such file exists. */
export async function fileKey(path: string): Promise<string> {
  return (await identify(path))?.key ?? path;
}
