import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { type DomainGraph, graphsOf, holderAmong } from '../../../../src/agent/qemu/graphs.ts';
import { VirtualMachines } from '../../../../src/agent/qemu/virtual-machines.ts';
import { HeldQmp } from '../../../support/fake-qemu/scripted-qmp.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

// This process listens there and answers nobody, as a QEMU whose monitor another client has.
it('a QEMU that has never answered holds the files that its process has open, and nothing else', async () => {
  await using dir = await testDir();
  await using held = await HeldQmp.hold(join(dir.path, 'qmp.sock'));
  const [opened, closed] = ['opened', 'closed'].map((name) => join(dir.path, name));
  for (const path of [opened, closed]) await writeFile(path ?? '', '');
  await using _file = await open(opened ?? '');
  const named = [{ name: 'web1', socketPath: held.path }];
  const machines = new VirtualMachines({ folder: undefined, named, logger: pino({ level: 'silent' }) });
  await machines.start();
  try {
    const graphs = await graphsOf(machines);
    expect(await holderAmong(graphs)(opened ?? '')).toBe('domain web1, whose QEMU cannot be asked');
    expect(await holderAmong(graphs)(closed ?? '')).toBeUndefined();
  } finally {
    await machines.close();
  }
});

it('one whose process cannot be read either may hold any existing file', async () => {
  await using dir = await testDir();
  const path = join(dir.path, 'there');
  await writeFile(path, '');
  const graph = { disks: [], nodes: new Map(), children: new Map(), jobNodes: new Map() };
  const graphs: readonly DomainGraph[] = [{ domain: 'web1', socketPath: '/run/web1.sock', graph, opens: 'UNKNOWN' }];
  expect(await holderAmong(graphs)(path)).toBe('domain web1, whose QEMU cannot be asked');
  expect(await holderAmong(graphs)(join(dir.path, 'nothing'))).toBeUndefined();
});
