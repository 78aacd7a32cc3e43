import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type BlockGraph, type Disk, findDisk, readBlockGraph, topDown } from '../../../../src/core/disk/chain.ts';
import { readBlockDevices, readGraph, readNodes } from '../../../../src/core/qemu/block-replies.ts';

/** The answers of a QEMU 7.2 with working directory /vm, unchanged; `about` says how it had been started. */
function recorded(name: string, folder = '/vm'): BlockGraph {
  const path = join(import.meta.dirname, 'fixtures', `${name}.json`);
  const replies: Readonly<Record<string, unknown>> = JSON.parse(readFileSync(path, 'utf8'));
  return readBlockGraph(
    readBlockDevices(replies['query-blockstats']),
    readNodes(replies['query-named-block-nodes']),
    readGraph(replies['x-debug-query-block-graph']),
    (file) => (file.startsWith('/') || file.startsWith('json:') ? file : `${folder}/${file}`),
  );
}

function diskOf(graph: BlockGraph, address: string): Disk {
  const disk = findDisk(graph, address);
  if (disk === undefined) throw new Error(`no single disk is named ${address}`);
  return disk;
}

/** Format and path of each image, the top one first. */
function chainOf(disk: Disk): string[] {
  return disk.chain.map((image) => `${image.format} ${image.path}`);
}

describe('disks of -drive', () => {
  const graph = recorded('drive');

  it('are those of devices, each with its backend, and none for a drive without a device', () => {
    expect(graph.disks.map(({ id, qdev, backend }) => [id, qdev, backend])).toEqual([
      ['vd0', '/machine/peripheral/vd0/virtio-backend', 'drive0'],
      ['sd0', 'sd0', 'drive1'],
      ['nv0', 'nv0', 'drive2'],
      ['/machine/peripheral-anon/device[0]', '/machine/peripheral-anon/device[0]', 'drive3'],
      ['cd0', 'cd0', 'drive4'],
    ]);
  });

  it('have their chains from the top down, relative names made absolute', () => {
    expect(graph.disks.map(chainOf)).toEqual([
      ['qcow2 /vm/a-snap2.qcow2', 'qcow2 /vm/a-snap1.qcow2', 'qcow2 /vm/a-base.qcow2'],
      ['raw /vm/scsi.raw'],
      ['qcow2 /vm/nvme.qcow2'],
      ['raw /vm/ide.raw'],
      [],
    ]);
  });

  it("have the images' properties as QEMU reports them", () => {
    const [top, , base] = diskOf(graph, 'vd0').chain;
    expect(top).toMatchObject({
      virtualSizeBytes: 8_388_608,
      clusterSizeBytes: 131_072,
      extendedL2: true,
      readOnly: false,
    });
    expect(base).toMatchObject({
      virtualSizeBytes: 8_388_608,
      allocatedBytes: 8_654_848,
      clusterSizeBytes: 65_536,
      extendedL2: false,
      readOnly: true,
    });
  });

  it('have the cache mode and the zero detection that a copy needs, too', () => {
    expect(diskOf(graph, 'sd0')).toMatchObject({ cacheDirect: true, detectZeroes: 'on' });
    expect(diskOf(graph, 'vd0')).toMatchObject({ cacheDirect: false, detectZeroes: 'off' });
  });

  it('are plain: whole files, with nothing between an image and its file, and no others write to them', () => {
    const images = [graph, recorded('blockdev')].flatMap(({ disks }) => disks.flatMap(({ chain }) => [...chain]));
    expect(images.filter(({ isPart, layers, encrypted }) => isPart || encrypted || layers.length > 0)).toEqual([]);
    expect(graph.disks.filter(({ sharesWrites }) => sharesWrites)).toEqual([]);
  });

  it('are empty without a medium, and then have no image that an empty name could find', () => {
    expect(diskOf(graph, 'cd0').chain).toEqual([]);
    expect(findDisk(graph, '')).toBeUndefined();
  });
});

describe('disks of -blockdev', () => {
  const graph = recorded('blockdev');

  it('are known by device, have no backend, and exist without a medium', () => {
    expect(graph.disks.map(({ id, backend, chain }) => [id, backend, chain.map(({ node }) => node)])).toEqual([
      ['vd0', '', ['a2', 'a1', 'a0']],
      ['/machine/peripheral-anon/device[0]/virtio-backend', '', ['b2', 'b1', 'b0']],
      ['sd0', '', ['s']],
      ['nv0', '', ['n']],
      ['hd0', '', ['i']],
      ['cd0', '', []],
    ]);
  });

  it('have a throttle filter beside the chain, not in it', () => {
    expect(graph.disks.map(({ filters }) => filters)).toEqual([[], ['b-throttle'], [], [], [], []]);
    expect(graph.disks.map(({ chain }) => chain[0]?.filters.join())).toEqual(['', 'throttle', '', '', '', undefined]);
  });

  // QEMU names such a node json:{…}: with relative backing names the header and the graph differ for it.
  it("have the path of their image's file if QEMU has a json: name for the node", () => {
    expect(chainOf(diskOf(graph, 'vd0'))).toEqual([
      'qcow2 /vm/a-snap2.qcow2',
      'qcow2 /vm/a-snap1.qcow2',
      'qcow2 /vm/a-base.qcow2',
    ]);
  });
});

describe('disks with a running mirror', () => {
  it('keep their chain below the filters of the mirror and of the throttle, and name the job', () => {
    const disk = diskOf(recorded('throttled-mirror'), 'vd0');
    expect(chainOf(disk)).toEqual(['qcow2 /vm/top.qcow2', 'qcow2 /vm/b-base.qcow2']);
    expect(disk.filters).toEqual(['bj0011223344556677-filter', 'throttle']);
    expect(disk.blockJobs).toEqual(['bj0011223344556677']);
  });

  it('show a job of another client, whose filter has no name', () => {
    const disk = diskOf(recorded('foreign-mirror'), 'drive0');
    expect(chainOf(disk)).toEqual(['qcow2 /vm/a-base.qcow2']);
    expect(disk.filters).toEqual([expect.stringMatching(/^#block/)]);
    expect(disk.blockJobs).toEqual(['by-hand']);
  });

  it('are on the copy after the pivot, without chain and filters, and without the job', () => {
    const disk = diskOf(recorded('throttled-pivoted'), 'vd0');
    expect(chainOf(disk)).toEqual(['qcow2 /vm/copy.qcow2']);
    expect(disk).toMatchObject({ filters: [], blockJobs: [] });
  });

  it('do not show the job on other disks', () => {
    expect(recorded('drive').disks.flatMap(({ blockJobs }) => blockJobs)).toEqual([]);
    expect(recorded('blockdev').disks.flatMap(({ blockJobs }) => blockJobs)).toEqual([]);
  });
});

describe('findDisk', () => {
  const graph = recorded('drive');
  const topOf = (id: string) => diskOf(graph, id).chain[0]?.node ?? '';

  it.each([
    ['a device id', 'vd0', 'vd0'],
    ['a QOM path', '/machine/peripheral/vd0/virtio-backend', 'vd0'],
    [
      'the QOM path of a device without an id',
      '/machine/peripheral-anon/device[0]',
      '/machine/peripheral-anon/device[0]',
    ],
    ['a block backend', 'drive1', 'sd0'],
    ['the path of the top image', '/vm/nvme.qcow2', 'nv0'],
    ['the path of a top image that was given by a relative name', '/vm/a-snap2.qcow2', 'vd0'],
  ])('takes %s', (_kind, address, id) => {
    expect(findDisk(graph, address)?.id).toBe(id);
  });

  it('takes the node name of the top image', () => {
    expect(findDisk(graph, topOf('sd0'))?.id).toBe('sd0');
  });

  it.each([
    ['the path of a backing image', '/vm/a-base.qcow2'],
    ['a drive that no device uses', 'unused'],
    ['a relative path', 'a-snap2.qcow2'],
    ['part of an id', 'vd'],
    ['an id in other letters', 'VD0'],
  ])('does not take %s', (_kind, address) => {
    expect(findDisk(graph, address)).toBeUndefined();
  });

  const disk = (id: string, backend: string, node: string, path: string): Disk => {
    const image = { ...diskOf(graph, 'sd0').chain[0], node, path };
    return { ...diskOf(graph, 'sd0'), id, qdev: id, backend, chain: [image as NonNullable<Disk['chain'][0]>] };
  };
  const withDisks = (...disks: Disk[]): BlockGraph => ({ ...graph, disks });

  it('takes the first kind of name that fits: id, backend, node, path', () => {
    const all = [
      disk('x', 'b1', 'n1', '/p1'),
      disk('d2', 'x', 'n2', '/p2'),
      disk('d3', 'b3', 'x', '/p3'),
      disk('d4', 'b4', 'n4', 'x'),
    ];
    const found: (string | undefined)[] = [];
    while (all.length > 0) {
      found.push(findDisk(withDisks(...all.toReversed()), 'x')?.id);
      all.shift();
    }
    expect(found).toEqual(['x', 'd2', 'd3', 'd4']);
  });

  it('guesses nothing if an image is open on two disks, and goes on to the kind of name that decides', () => {
    const twice = withDisks(disk('d1', 'b1', 'n1', '/p'), disk('d2', 'b2', 'n2', '/p'));
    expect(findDisk(twice, '/p')).toBeUndefined();
    expect(findDisk(twice, 'n2')?.id).toBe('d2');
    const mixed = withDisks(disk('d1', 'x', 'n1', '/p1'), disk('d2', 'x', 'n2', '/p2'), disk('d3', 'b', 'x', '/p3'));
    expect(findDisk(mixed, 'x')?.id).toBe('d3');
  });
});

const child = (node: string) => ({ edge: 'children', node });

describe('topDown', () => {
  it('returns every node of a chain before the nodes that it uses, so that each can be deleted in turn', () => {
    const graph = recorded('blockdev');
    for (const name of graph.nodes.keys()) {
      const order = topDown(graph, name);
      expect(order[0]).toBe(name);
      expect(new Set(order).size).toBe(order.length);
      for (const [index, node] of order.entries()) {
        for (const used of graph.children.get(node) ?? []) {
          expect(order.indexOf(used.node), `${used.node} is used by ${node}`).toBeGreaterThan(index);
        }
      }
    }
    expect(new Set(topDown(graph, 'a2'))).toEqual(new Set(['a2', 'a2f', 'a1', 'a1f', 'a0', 'a0f']));
  });

  // A quorum over two overlays of one base: the base is below both.
  it('returns a node that two others use after both', () => {
    const children = new Map([
      ['quorum', [child('left'), child('right')]],
      ['left', [child('base')]],
      ['right', [child('base')]],
    ]);
    const order = topDown({ disks: [], nodes: new Map(), children, jobNodes: new Map() }, 'quorum');
    expect(order.indexOf('base')).toBe(3);
  });
});
