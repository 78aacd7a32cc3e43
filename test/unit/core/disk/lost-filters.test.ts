/** A disk whose users QEMU 7.2 has lost count of is recognised by a filter that nothing uses. */
import { describe, expect, it } from 'vitest';
import { readBlockGraph } from '../../../../src/core/disk/chain.ts';
import { withLostFilters } from '../../../../src/core/disk/lost-filters.ts';
import { readBlockDevices, readGraph, readNodes } from '../../../../src/core/qemu/block-replies.ts';

const TYPES: Readonly<Record<string, string>> = { vd0: 'block-backend', job: 'block-job' };

type Edge = readonly [parent: string, child: string, name: string];

/** A device on `top`, which is on `base`; both have a filter of a copy as a parent or not. */
function lostIn(edges: readonly Edge[], filters: readonly string[]) {
  const nodes = ['top', 'base', ...filters];
  const ids = new Map([...nodes, 'vd0', 'job'].map((name, at) => [name, at + 1]));
  const edge = ([parent, child, name]: Edge) => ({
    parent: ids.get(parent),
    child: ids.get(child),
    name,
    perm: [],
    'shared-perm': [],
  });
  const graph = readBlockGraph(
    readBlockDevices([{ device: '', qdev: 'vd0', 'node-name': edges[0]?.[1], stats: {} }]),
    readNodes(
      nodes.map((name) => ({
        'node-name': name,
        drv: filters.includes(name) ? 'mirror_top' : 'qcow2',
        file: `/vm/${name}`,
        ro: false,
        cache: { direct: false, writeback: true, 'no-flush': false },
        detect_zeroes: 'off',
        image: { filename: `/vm/${name}`, format: 'qcow2', 'virtual-size': 1024 },
      })),
    ),
    readGraph({
      nodes: [...ids].map(([name, id]) => ({ id, type: TYPES[name] ?? 'block-driver', name })),
      edges: edges.map(edge),
    }),
    (file) => file,
  );
  return withLostFilters(graph).disks.flatMap(({ chain }) => chain.map(({ node, lostFilter }) => [node, lostFilter]));
}

const CHAIN: Edge = ['top', 'base', 'backing'];
const ON_TOP: Edge = ['vd0', 'top', 'root'];

describe('the filter of a copy', () => {
  it('is lost if neither a device nor a job has it, on whichever image of the chain it is', () => {
    expect(lostIn([ON_TOP, CHAIN, ['f', 'top', 'backing']], ['f'])).toEqual([
      ['top', 'f'],
      ['base', undefined],
    ]);
    expect(lostIn([ON_TOP, CHAIN, ['f', 'base', 'backing']], ['f'])).toEqual([
      ['top', undefined],
      ['base', 'f'],
    ]);
  });

  it('is not lost while a job or the device is on it, nor if there is none', () => {
    const none = [
      ['top', undefined],
      ['base', undefined],
    ];
    expect(lostIn([ON_TOP, CHAIN], [])).toEqual(none);
    expect(lostIn([['vd0', 'f', 'root'], CHAIN, ['f', 'top', 'backing']], ['f'])).toEqual(none);
    expect(lostIn([ON_TOP, CHAIN, ['f', 'top', 'backing'], ['job', 'f', 'main node']], ['f'])).toEqual(none);
  });
});
