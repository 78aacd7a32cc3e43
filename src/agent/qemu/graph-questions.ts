/** What a QEMU is asked for its block graph, and what its answers say. */
import { type BlockGraph, readBlockGraph } from '../../core/disk/chain.ts';
import { readBlockDevices, readGraph, readNodes } from '../../core/qemu/block-replies.ts';
import { namesOfFdsets, type TellsFiles } from './fdsets.ts';
import { absoluteIn } from './qemu-process.ts';

/** The one that QEMU bears least. */
export const ALL_NODES = { execute: 'query-named-block-nodes', arguments: { flat: true } } as const;

/** To be sent together: QEMU answers them one after the other, with nothing of ours in between. */
export const GRAPH_QUESTIONS = [
  { execute: 'query-blockstats' },
  ALL_NODES,
  { execute: 'x-debug-query-block-graph' },
] as const;

/** `folder`: where QEMU was started. */
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
