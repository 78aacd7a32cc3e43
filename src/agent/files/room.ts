/** The room at the destination of a copy: the free bytes of its file system, and what the image has allocated of it. */
import { dirname } from 'node:path';
import { SECTOR_BYTES } from '../../core/disk/sectors.ts';
import { fail } from '../../core/errors.ts';
import type { Job } from '../../core/job/job.ts';
import { spaceForGuest } from '../../core/job/space.ts';
import type { KnownFile } from '../../core/job/step.ts';
import { inTime } from '../../lib/timer.ts';
import { stat, statfs } from '../host/disk-files.ts';
import { QEMU_ANSWERS_MS } from '../qemu/graphs.ts';
import { isSame } from './files.ts';

/** For a user without privileges, as QEMU is. */
export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** Undefined if that file is no longer at its name. */
export async function allocatedBytes(file: KnownFile): Promise<number | undefined> {
  const stats = await stat(file.path);
  return isSame(file, stats) ? Number(stats.blocks) * SECTOR_BYTES : undefined;
}

/**
 * Throws SPACE_LOW if the guest would have no room after the pivot, unless the start said overcommit. A file system that
 * does not answer proves nothing.
 */
export async function refusePivotWithoutRoom(job: Job): Promise<void> {
  const { accepted, destinationFile: file } = job;
  if (accepted.kind !== 'COPY' || accepted.options.overcommit === true || file === undefined) return;
  const room = await inTime(Promise.all([freeBytes(dirname(file.path)), allocatedBytes(file)]), QEMU_ANSWERS_MS);
  const [free, allocated] = room ?? [];
  if (free === undefined || allocated === undefined) return;
  const needed = spaceForGuest(job, allocated);
  if (free >= needed) return;
  const { path } = file;
  fail('SPACE_LOW', { path, freeBytes: free, neededBytes: needed, what: 'the guest after the pivot' });
}
