/**
 * Filters of ended copies that QEMU 7.2 has lost count of. Its `stop` flushes one disk after the other, and keeps a
 * reference to the node of the disk meanwhile. If a copy of that disk ends during the flush, QEMU gives back another
 * reference than it took: the filter of the copy stays for ever, and the active image has one user less than it knows.
 *
 *   device ──root──► active image ◄──backing── mirror_top      no job has it, no device is on it
 */
import type { BlockGraph, Disk, Image } from './chain.ts';

/** The graph with each image of a disk that is right below such a filter marked. */
export function withLostFilters(graph: BlockGraph): BlockGraph {
  const { disks, nodes, children, jobNodes } = graph;
  const used = new Set([...disks.flatMap(({ filters }) => filters), ...[...jobNodes.values()].flat()]);
  const lost = [...nodes.values()].filter(({ node, format }) => format === 'mirror_top' && !used.has(node));
  if (lost.length === 0) return graph;
  const above = new Map(lost.flatMap(({ node }) => (children.get(node) ?? []).map((below) => [below.node, node])));
  const mark = (image: Image): Image => {
    const lostFilter = above.get(image.node);
    return lostFilter === undefined ? image : { ...image, lostFilter };
  };
  const marked = disks.map((disk): Disk => {
    const [top, ...below] = disk.chain;
    return top === undefined ? disk : { ...disk, chain: [mark(top), ...below.map(mark)] };
  });
  return { ...graph, disks: marked };
}
