/** Which files a job's disk is made of, or may come to be: what an older job says of them is over. */

import type { QmpCommand } from '../qemu/commands.ts';
import type { KnownFile, Plan } from './step.ts';

/** As `stat` has it where there is none. */
export const NO_BIRTH_TIME = '0';

/** What a path stands for: writing to a file changes each whose `key` is among its `keys`, and the other way round. */
export interface FileNames {
  readonly path: string;
  /** Undefined: there is no such file, or none of this host. */
  readonly key?: string;
  /** Not told where it is the key alone. */
  readonly keys?: readonly string[];
  /** The same file after a boot or a mount, which may give its device another number. Of what it is made of it is in `keys`. */
  readonly born?: string;
}

export interface UsedFile extends FileNames {
  /** DISK: of the chain that the guest has, or of the one that it may go to. COPY: what a copy is written to. */
  readonly as: 'DISK' | 'COPY';
}

export function keyOfFile(device: bigint | string, inode: bigint | string): string {
  return `file ${device}:${inode}`;
}

/** Undefined: its file system tells none. Copies of a whole file system have the same, so it never says that a file is free. */
export function bornOf(inode: bigint | string, birthTimeNs: bigint | string): string | undefined {
  return String(birthTimeNs) === NO_BIRTH_TIME ? undefined : `inode ${inode} of ${birthTimeNs}`;
}

/** As it was recorded: where the file is now is not looked at. */
export function namesOfKnown({ path, device, inode, birthTimeNs }: KnownFile): FileNames {
  const key = keyOfFile(device, inode);
  const born = bornOf(inode, birthTimeNs);
  return { path, key, ...(born !== undefined && { born }) };
}

/** All that QEMU opens for it by name. */
export function filesOpenedBy(plan: Plan): readonly string[] {
  return plan.flatMap(({ run }) => (run.do === 'qmp' || run.do === 'qmp-job' ? filesIn(run.command) : []));
}

function filesIn(command: QmpCommand): readonly string[] {
  return command.execute === 'blockdev-add' && 'filename' in command.arguments ? [command.arguments.filename] : [];
}
