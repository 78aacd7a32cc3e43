/** Files that QEMU received as descriptors: it names them `/dev/fdset/N`, which means nothing outside. */
import type { QemuNode } from '../../core/qemu/block-replies.ts';
import type { QmpCommand } from '../../core/qemu/commands.ts';
import { type QemuFdset, readFdsets } from '../../core/qemu/replies.ts';
import type { OpenFiles } from '../host/open-files.ts';

const FDSET = /^\/dev\/fdset\/\d+$/;

/** A QEMU and its open files, if they are visible. */
export interface TellsFiles {
  execute(command: QmpCommand): Promise<unknown>;
  openFiles(): Promise<OpenFiles | undefined>;
}

/** The kernel's present names for the files of such nodes. Other names stay as QEMU reports them. */
export async function namesOfFdsets(
  nodes: readonly QemuNode[],
  machine: TellsFiles,
): Promise<ReadonlyMap<string, string>> {
  if (!nodes.some(({ file }) => FDSET.test(file))) return new Map();
  const sets = readFdsets(await machine.execute({ execute: 'query-fdsets' }));
  const opens = await machine.openFiles();
  if (opens === undefined) return new Map();
  const names = sets.map((set) => [`/dev/fdset/${set.id}`, nameOf(set, opens)] as const);
  return new Map(names.flatMap(([set, name]) => (name === undefined ? [] : [[set, name] as const])));
}

/** All descriptors of the set have one name, and a file of that name still exists. */
function nameOf({ descriptors }: QemuFdset, { files }: OpenFiles): string | undefined {
  const open = files.filter(({ descriptor }) => descriptors.includes(descriptor));
  const [name, ...others] = new Set(open.map((file) => file.name));
  return name === undefined || others.length > 0 || name.endsWith(' (deleted)') ? undefined : name;
}
