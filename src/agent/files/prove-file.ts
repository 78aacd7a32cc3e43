/** Proves that the intended file and the file that QEMU has open are the same, before any data is written through QEMU. */
import { dirname } from 'node:path';
import { SECTOR_BYTES, wholeSectors } from '../../core/disk/sectors.ts';
import { BlockJobError, type Failure, fail, failure } from '../../core/errors.ts';
import type { Job } from '../../core/job/job.ts';
import { filesToFind } from '../../core/job/job-facts.ts';
import type { Action, KnownFile } from '../../core/job/step.ts';
import { identify, overlaps } from '../host/file-identity.ts';
import { isOpen, soughtAt, soughtIn } from '../host/open-files.ts';
import { O_PATH, PinnedFolder } from '../host/pinned-folder.ts';
import type { JobLog } from '../journal/job-log.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';
import { isFoundAs, isSame, knownAs } from './files.ts';
import type { Place } from './place.ts';

/**
 * For a node that was just opened. Undefined for a device. `meant`: the file that was made, or looked at, before QEMU
 * got its name. Throws PATH_REPLACED if another file is at the path, and PATH_DIFFERS_IN_QEMU if QEMU has opened
 * another one.
 */
export async function proveFile(
  { node, path, isNew }: Extract<Action, { do: 'prove-file' }>,
  machine: Pick<VirtualMachine, 'name' | 'openFiles' | 'graph'>,
  meant: KnownFile | undefined,
): Promise<KnownFile | undefined> {
  const differs = () => fail('PATH_DIFFERS_IN_QEMU', { path, domain: machine.name });
  await using folder = await PinnedFolder.of(path);
  await using there = await folder.open(path, O_PATH).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return differs();
    throw error;
  });
  const stats = await there.stat();
  if (stats.isSymbolicLink() || (meant !== undefined && !isSame(meant, stats))) fail('PATH_REPLACED', { path });
  const ours = await soughtIn(there);
  const known = ours.identity.isFile ? knownAs(path, stats) : undefined;
  const opens = machine.openFiles();
  if (opens !== undefined) {
    if (!(await isOpen(opens, ours))) differs();
    return known;
  }
  // A device reports its size in other ways, and is the same for all processes.
  if (known === undefined) return undefined;
  const seen = (await machine.graph()).nodes.get(node);
  const isAsLarge = seen?.virtualSizeBytes === wholeSectors(Number(stats.size));
  // A new file has no data; an older one may have any.
  const isEmpty = !isNew || seen?.allocatedBytes === Number(stats.blocks) * SECTOR_BYTES;
  if (!isAsLarge || !isEmpty) differs();
  return known;
}

type Opens = Pick<VirtualMachine, 'openFiles'>;

/**
 * Undefined if all of these files, which were proved to be QEMU's, are still at their names. QEMU's open file decides
 * if a network file system reports another inode at each look, or if only QEMU finds the name. Rejects if that cannot
 * be determined.
 */
export async function movedAway(files: readonly KnownFile[], machine: Opens | undefined): Promise<Failure | undefined> {
  for (const file of files) {
    if (await isFoundAs(file)) continue;
    const { path } = file;
    const opens = machine?.openFiles();
    const there = opens && (await soughtAt(path, opens.root));
    if (opens === undefined || there === undefined || !(await isOpen(opens, there)))
      return failure('DESTINATION_MOVED', { path });
  }
  return undefined;
}

/** Throws DESTINATION_MOVED. */
export async function mustBeInPlace(files: readonly KnownFile[], machine: Opens | undefined): Promise<void> {
  const moved = await movedAway(files, machine);
  if (moved !== undefined) throw new BlockJobError(moved);
}

/** The disk, or the copy, can be opened by its names after the job. */
export async function isFoundByName(job: Job, machine: Opens | undefined): Promise<boolean> {
  return (await movedAway(filesToFind(job), machine)) === undefined;
}

/** When a caller asks for the pivot: the job stays READY. It is checked again right before the guest moves. */
export async function refuseMovedPivot({ job }: JobLog, machines: VirtualMachines): Promise<void> {
  if (job.state === 'READY') await mustBeInPlace(filesToFind(job), machines.of(job.accepted));
}

/** Before anything is made: the path is the same for both, or in the same folder. Throws PATH_DIFFERS_IN_QEMU. */
export async function refuseSeenOtherwise({ path }: Place, machine: VirtualMachine): Promise<void> {
  const opens = machine.openFiles();
  if (opens === undefined || opens.root === '') return;
  // The folder of an existing device says nothing: many processes have a /dev of their own, with the same devices.
  const meant = (await identify(path)) === undefined ? dirname(path) : path;
  const [ours, theirs] = await Promise.all([identify(meant), identify(meant, opens.root)]);
  if (ours === undefined || theirs === undefined || !overlaps(ours, theirs)) {
    fail('PATH_DIFFERS_IN_QEMU', { path, domain: machine.name });
  }
}
