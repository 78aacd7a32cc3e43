/** The file at a path, without symbolic links, and whether a destination may be there. Changes nothing. */
import { constants } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { HEADER_BYTES, type ImageHeader, type Qcow2Header, readImageHeader } from '../../core/disk/image-header.ts';
import { BlockJobError, fail } from '../../core/errors.ts';
import type { KnownFile } from '../../core/job/step.ts';
import { deviceName } from '../host/device-number.ts';
import { type DiskFile, open, realpath } from '../host/disk-files.ts';
import { processWith } from '../host/open-files.ts';
import { currentPath, O_PATH, PinnedFolder } from '../host/pinned-folder.ts';
import { failureFrom } from '../qemu/failures.ts';
import { type DomainGraph, holderAmong } from '../qemu/graphs.ts';
import { isSame, knownAs } from './files.ts';

const CHUNK_BYTES = 1024 * 1024;

export interface Place {
  /** Without symbolic links: the checked path is the one that is used. */
  readonly path: string;
  /** LINK: a link that does not lead to a block device. */
  readonly is: 'NOTHING' | 'FILE' | 'DEVICE' | 'FOLDER' | 'LINK' | 'OTHER';
  readonly sizeBytes: number;
  /** The identity of a file or device. */
  readonly file?: KnownFile;
}

export interface Allowed {
  /** A destination must be below one of these. */
  readonly folders: readonly string[];
  /** Any port if undefined. */
  readonly nbdServers: readonly { readonly host: string; readonly port: number | undefined }[];
}

/** Throws ACCESS_DENIED, or DESTINATION_MISSING if a folder above it is missing. */
export async function lookAt(path: string): Promise<Place> {
  await using folder = await withOurErrors(dirname(path), async () => await PinnedFolder.open(dirname(path)));
  const real = join(folder.path, basename(path));
  const there = await withOurErrors(path, async () => await folder.lstat(path));
  if (there === undefined) return { path: real, is: 'NOTHING', sizeBytes: 0 };
  if (there.isFile()) return { path: real, is: 'FILE', sizeBytes: Number(there.size), file: knownAs(real, there) };
  if (there.isDirectory()) return { path: real, is: 'FOLDER', sizeBytes: 0 };
  // /dev/disk/by-id and the names of LVM are links to devices.
  await using behind = await open(folder.in(path), O_PATH).catch(() => undefined);
  const device = await behind?.stat();
  if (behind !== undefined && device?.isBlockDevice() === true) {
    const target = currentPath(behind);
    const sizeBytes = await deviceBytes(Number(device.rdev));
    return { path: target, is: 'DEVICE', sizeBytes, file: knownAs(target, device) };
  }
  return { path: real, is: there.isSymbolicLink() ? 'LINK' : 'OTHER', sizeBytes: 0 };
}

/** Like lookAt, for a file that must exist: links are followed to their end. */
export async function lookAtExisting(path: string): Promise<Place> {
  return await lookAt(await realpath(path).catch(() => path));
}

/** /sys/dev/block/MAJOR:MINOR/size counts sectors of 512 bytes, whatever the device's own sector size is. */
async function deviceBytes(rdev: number): Promise<number> {
  return Number(await readFile(`/sys/dev/block/${deviceName(rdev)}/size`, 'utf8')) * 512;
}

/**
 * Refuses a path outside the allowed folders before anything else, so that the answer does not show what exists there.
 * It checks the name: another file may be there a moment later, and mustBeWithin is for that.
 */
export async function checkAllowed(path: string, { folders }: Allowed): Promise<void> {
  await refuseOutside(await nearestFolder(dirname(path)), folders, path);
}

/** `place`: the file that was found, by its path without links. `path`: as requested. Throws DESTINATION_NOT_ALLOWED. */
export async function mustBeWithin({ path: real }: Place, { folders }: Allowed, path: string): Promise<void> {
  await refuseOutside(dirname(real), folders, path);
}

async function refuseOutside(folder: string, folders: readonly string[], path: string): Promise<void> {
  const allowed = await Promise.all(folders.map(async (one) => await realpath(one).catch(() => undefined)));
  const isIn = (one: string) => folder === one || folder.startsWith(one === '/' ? '/' : `${one}/`);
  if (!allowed.some((one) => one !== undefined && isIn(one))) fail('DESTINATION_NOT_ALLOWED', { path });
}

/** The first existing folder on the way up, without symbolic links. */
async function nearestFolder(folder: string): Promise<string> {
  const real = await realpath(folder).catch(() => undefined);
  return real ?? (folder === '/' ? '/' : await nearestFolder(dirname(folder)));
}

/** Throws DESTINATION_IN_USE if a VM has this file or device open, under any name, or the host itself. */
export async function refuseUsed(place: Place, graphs: readonly DomainGraph[]): Promise<void> {
  const { path } = place;
  // Many processes open a device only to look at it; the kernel shows below who has it exclusively.
  const by = (await holderAmong(graphs)(path)) ?? (place.is === 'DEVICE' ? undefined : await processWith(path));
  if (by !== undefined) fail('DESTINATION_IN_USE', { path, by });
  if (place.is !== 'DEVICE') return;
  try {
    // Without O_CREAT this asks the kernel for a device that nobody else has: no file system, no RAID, no swap.
    await (await open(path, constants.O_RDONLY | constants.O_EXCL)).close();
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EBUSY')) throw asBlockJobError(error, path);
    fail('DESTINATION_IN_USE', { path, by: 'the host itself: it is mounted, or part of another device' });
  }
}

/** `file`: the file that must be at the path. Throws PATH_REPLACED if another one is. */
export async function readHeader(path: string, file?: KnownFile): Promise<ImageHeader> {
  return await withOurErrors(path, async () => {
    await using handle = await openKnown(path, file);
    const buffer = new Uint8Array(HEADER_BYTES);
    let length = 0;
    for (let bytesRead = -1; bytesRead !== 0 && length < buffer.length; length += bytesRead) {
      ({ bytesRead } = await handle.read(buffer, length, buffer.length - length, length));
    }
    return readImageHeader(buffer.subarray(0, length));
  });
}

/** Whether so many bytes are there, and all of them zeroes. `file`: as in readHeader. */
export async function isZero(
  path: string,
  { offset, bytes }: Qcow2Header['tables'],
  file?: KnownFile,
): Promise<boolean> {
  await using handle = await withOurErrors(path, async () => await openKnown(path, file));
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let at = 0; at < bytes; ) {
    const wanted = Math.min(buffer.length, bytes - at);
    const { bytesRead } = await handle.read(buffer, 0, wanted, offset + at);
    if (bytesRead === 0 || buffer.subarray(0, bytesRead).some((byte) => byte !== 0)) return false;
    at += bytesRead;
  }
  return true;
}

async function openKnown(path: string, file: KnownFile | undefined): Promise<DiskFile> {
  // Opening a FIFO would wait for a writer.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (file === undefined || isSame(file, await handle.stat())) return handle;
  await handle.close();
  fail('PATH_REPLACED', { path });
}

/** Turns an error of the file system into a failure. */
export async function withOurErrors<T>(path: string, work: () => Promise<T>): Promise<T> {
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
