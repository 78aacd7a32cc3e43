/** The files that are, or may become, a part of a job's disk: older jobs no longer decide about them. */

import type { QmpCommand } from '../qemu/commands.ts';
import type { KnownFile, Plan } from './step.ts';

/** The value that `stat` reports if there is none. */
export const NO_BIRTH_TIME = '0';

/** The file at a path. Writing to a file changes every file whose `keys` contain its `key`, and the other way round. */
export interface FileNames {
  readonly path: string;
  /** Undefined if the file does not exist, or is not a file of this host. */
  readonly key?: string;
  /** Left out if it is the key alone. */
  readonly keys?: readonly string[];
  /** The same file after a boot or a mount, which may renumber its device. `keys` has the files below a device. */
  readonly born?: string;
}

export interface UsedFile extends FileNames {
  /** DISK: an image of the guest's chain, or of the one that it may move to. COPY: the target of a copy. */
  readonly as: 'DISK' | 'COPY';
}

export function keyOfFile(device: bigint | string, inode: bigint | string): string {
  return `file ${device}:${inode}`;
}

/** Undefined if its file system has no UUID. Copies of a file system share it, so it never proves that a file is free. */
export function bornOf(inode: bigint | string, birthTimeNs: bigint | string): string | undefined {
  return String(birthTimeNs) === NO_BIRTH_TIME ? undefined : `inode ${inode} of ${birthTimeNs}`;
}

/** The file as it was recorded, without a look at where it is now. */
export function namesOfKnown({ path, device, inode, birthTimeNs }: KnownFile): FileNames {
  const key = keyOfFile(device, inode);
  const born = bornOf(inode, birthTimeNs);
  return { path, key, ...(born !== undefined && { born }) };
}

/** All files that QEMU opens for it by name. */
export function filesOpenedBy(plan: Plan): readonly string[] {
  return plan.flatMap(({ run }) => (run.do === 'qmp' || run.do === 'qmp-job' ? filesIn(run.command) : []));
}

function filesIn(command: QmpCommand): readonly string[] {
  return command.execute === 'blockdev-add' && 'filename' in command.arguments ? [command.arguments.filename] : [];
}
