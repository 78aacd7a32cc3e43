/** Which files a job's disk is made of, or may come to be: what an older job says of them is over. */

import type { KnownFile, Plan } from './plans/step.ts';
import type { QmpCommand } from './qemu/commands.ts';

/** What a path stands for: writing to a file changes each whose `key` is among its `keys`, and the other way round. */
export interface FileNames {
  readonly path: string;
  /** Undefined: there is no such file, or none of this host. */
  readonly key?: string;
  readonly keys?: readonly string[];
}

export interface UsedFile extends FileNames {
  /** DISK: of the chain that the guest has, or of the one that it may go to. COPY: what a copy is written to. */
  readonly as: 'DISK' | 'COPY';
}

export function keyOfFile(device: bigint | string, inode: bigint | string): string {
  return `file ${device}:${inode}`;
}

/** As it was recorded: where the file is now is not looked at. */
export function namesOfKnown({ path, device, inode }: KnownFile): FileNames {
  const key = keyOfFile(device, inode);
  return { path, key, keys: [key] };
}

/** All that QEMU opens for it by name. */
export function filesOpenedBy(plan: Plan): readonly string[] {
  return plan.flatMap(({ run }) => (run.do === 'qmp' || run.do === 'qmp-job' ? filesIn(run.command) : []));
}

function filesIn(command: QmpCommand): readonly string[] {
  return command.execute === 'blockdev-add' && 'filename' in command.arguments ? [command.arguments.filename] : [];
}
