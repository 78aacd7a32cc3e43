/** The file that is meant and the file that QEMU has open are proved to be one, before anything is written through QEMU. */
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
 * Of a node that was just opened. Undefined: it is a device. `meant`: what was made, or looked at, before QEMU was told its name.
 * Throws PATH_REPLACED where that is not at the path, and PATH_DIFFERS_IN_QEMU where QEMU has opened something else.
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
  const opens = await machine.openFiles();
  if (opens !== undefined) {
    if (!(await isOpen(opens, ours))) differs();
    return known;
  }
  // A device tells its size in other ways, and is one for all who see it.
  if (known === undefined) return undefined;
  const seen = (await machine.graph()).nodes.get(node);
  const isAsLarge = seen?.virtualSizeBytes === wholeSectors(Number(stats.size));
  // What was just made holds nothing; what was there before may hold anything.
  const isEmpty = !isNew || seen?.allocatedBytes === Number(stats.blocks) * SECTOR_BYTES;
  if (!isAsLarge || !isEmpty) differs();
  return known;
}

type Opens = Pick<VirtualMachine, 'openFiles'>;

/**
 * Undefined: all of these files, which were proved to be QEMU's, are at their names still. What QEMU has open there decides
 * where a network file system tells another inode at each look, and where only QEMU finds the name. Rejects where it cannot be
 * told.
 */
export async function movedAway(files: readonly KnownFile[], machine: Opens | undefined): Promise<Failure | undefined> {
  for (const file of files) {
    if (await isFoundAs(file)) continue;
    const { path } = file;
    const opens = await machine?.openFiles();
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

/** Who opens the disk, or the copy, by its names when the job is done finds it. */
export async function isFoundByName(job: Job, machine: Opens | undefined): Promise<boolean> {
  return (await movedAway(filesToFind(job), machine)) === undefined;
}

/** As a caller asks for the pivot: the job stays READY. It is looked at again right before the guest is moved. */
export async function refuseMovedPivot({ job }: JobLog, machines: VirtualMachines): Promise<void> {
  if (job.state === 'READY') await mustBeInPlace(filesToFind(job), machines.of(job.accepted));
}

/** Before anything is made: at the path is the same for both, or nothing in a folder that is. Throws PATH_DIFFERS_IN_QEMU. */
export async function refuseSeenOtherwise({ path }: Place, machine: VirtualMachine): Promise<void> {
  const opens = await machine.openFiles();
  if (opens === undefined || opens.root === '') return;
  // The folder of what is there says nothing: many have a /dev of their own, with the same devices.
  const meant = (await identify(path)) === undefined ? dirname(path) : path;
  const [ours, theirs] = await Promise.all([identify(meant), identify(meant, opens.root)]);
  if (ours === undefined || theirs === undefined || !overlaps(ours, theirs)) {
    fail('PATH_DIFFERS_IN_QEMU', { path, domain: machine.name });
  }
}
