/** The questions to a QEMU about its block graph, and their answers. */
import { type BlockGraph, readBlockGraph } from '../../core/disk/chain.ts';
import { readBlockDevices, readGraph, readNodes } from '../../core/qemu/block-replies.ts';
import { namesOfFdsets, type TellsFiles } from './fdsets.ts';
import { absoluteIn } from './qemu-process.ts';

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
  machine: TellsFiles,
  folder: string | undefined,
): Promise<BlockGraph> {
  const found = readNodes(nodes);
  const absolute = absoluteIn(folder);
  const sets = await namesOfFdsets(found, machine);
  const nameOf = (file: string) => sets.get(file) ?? absolute(file);
  return readBlockGraph(readBlockDevices(devices), found, readGraph(graph), nameOf);
}
