/** The file that is meant and the file that QEMU has open are proved to be one, before anything is written through QEMU. */
import { dirname } from 'node:path';
import { fail } from '../core/errors.ts';
import type { Action } from '../core/plans/step.ts';
import { stat } from './disk-files.ts';
import { identify, overlaps } from './file-identity.ts';
import { isOpen, soughtAt } from './open-files.ts';
import type { Place } from './place.ts';
import type { VirtualMachine } from './virtual-machine.ts';

/** QEMU counts a raw file in whole sectors, and stat what a file takes in blocks. */
const SECTOR_BYTES = 512;

/** Of a node that was just opened. Throws PATH_DIFFERS_IN_QEMU. */
export async function proveFile(
  { node, path, isNew }: Extract<Action, { do: 'prove-file' }>,
  machine: VirtualMachine,
): Promise<void> {
  const differs = () => fail('PATH_DIFFERS_IN_QEMU', { path, domain: machine.name });
  const ours = (await soughtAt(path)) ?? differs();
  const opens = await machine.openFiles();
  if (opens !== undefined) {
    if (!(await isOpen(opens, ours))) differs();
    return;
  }
  // A device tells its size in other ways, and is one for all who see it.
  if (!ours.identity.isFile) return;
  const there = await stat(path);
  const seen = (await machine.graph()).nodes.get(node);
  const isAsLarge = seen?.virtualSizeBytes === Math.ceil(Number(there.size) / SECTOR_BYTES) * SECTOR_BYTES;
  // What was just made holds nothing; what was there before may hold anything.
  const isEmpty = !isNew || seen?.allocatedBytes === Number(there.blocks) * SECTOR_BYTES;
  if (!isAsLarge || !isEmpty) differs();
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
