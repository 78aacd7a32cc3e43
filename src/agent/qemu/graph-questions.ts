/** The questions to a QEMU about its block graph, and their answers. */
import { type BlockGraph, readBlockGraph } from '../../core/disk/chain.ts';
import { withLostFilters } from '../../core/disk/lost-filters.ts';
import { type QemuNode, readBlockDevices, readGraph, readNodes } from '../../core/qemu/block-replies.ts';
import type { QmpCommand } from '../../core/qemu/commands.ts';
import { type QemuFdset, readFdsets } from '../../core/qemu/replies.ts';
import type { OpenFiles } from '../host/open-files.ts';
import { absoluteIn } from './qemu-process.ts';

/** A QEMU and its open files, if they are visible. */
interface Asked {
  execute(command: QmpCommand): Promise<unknown>;
  openFiles(): OpenFiles | undefined;
}

/** The question that QEMU takes worst. */
export const ALL_NODES = { execute: 'query-named-block-nodes', arguments: { flat: true } } as const;

/** To be sent together: QEMU answers them in order, with nothing of ours in between. */
export const GRAPH_QUESTIONS = [
  { execute: 'query-blockstats' },
  ALL_NODES,
  { execute: 'x-debug-query-block-graph' },
] as const;

/** `folder`: QEMU's working directory. */
export async function graphFrom(
  [devices, nodes, graph]: readonly unknown[],
  machine: Asked,
  folder: string | undefined,
): Promise<BlockGraph> {
  const found = readNodes(nodes);
  const absolute = absoluteIn(folder);
  const sets = await namesOfFdsets(found, machine);
  const pathOf = (file: string) => sets.get(file) ?? absolute(file);
  return withLostFilters(readBlockGraph(readBlockDevices(devices), found, readGraph(graph), pathOf));
}

/** A file that QEMU received as descriptors. Its name means nothing outside. */
const FDSET = /^\/dev\/fdset\/\d+$/;

/** The kernel's present names for the files of such nodes. Other names stay as QEMU reports them. */
async function namesOfFdsets(nodes: readonly QemuNode[], machine: Asked): Promise<ReadonlyMap<string, string>> {
  if (!nodes.some(({ file }) => FDSET.test(file))) return new Map();
  const sets = readFdsets(await machine.execute({ execute: 'query-fdsets' }));
  const opens = machine.openFiles();
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
