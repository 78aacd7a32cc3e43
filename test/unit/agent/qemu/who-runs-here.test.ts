import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { VirtualMachines } from '../../../../src/agent/qemu/virtual-machines.ts';
import { type Running, WhoRunsHere } from '../../../../src/agent/qemu/who-runs-here.ts';
import { Wake } from '../../../../src/lib/wake.ts';
import { FakeQemu } from '../../../support/fake-qemu/fake-qemu.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';
import { until } from '../../../support/until.ts';

const log = pino({ level: 'silent' });

it('the registry of VMs learns each name as soon as it is known, and is complete when every QEMU has answered', async () => {
  await using dir = await testDir('bj-who-');
  const path = (name: string) => join(dir.path, name);
  await using _web = await FakeQemu.start({ socketPath: path('web'), name: 'web', disks: [], sizeBytes: 0 });
  const held: Socket[] = [];
  const hung = createServer((socket) => held.push(socket)).listen(path('hung'));
  await once(hung, 'listening');
  const named = ['web', 'hung', 'absent'].map((name) => ({ name, socketPath: path(name) }));
  const machines = new VirtualMachines({ folder: undefined, named, logger: log });
  const told: { names: readonly string[]; complete: boolean }[] = [];
  const changes = new Wake();
  const known = (domains: readonly Running[], { complete }: { readonly complete: boolean }) => {
    told.push({ names: domains.map(({ name }) => name), complete });
    changes.notify();
  };
  await machines.start();
  try {
    await using _who = new WhoRunsHere(machines, { known, arrived: () => undefined, logger: log });
    await until('the one that answers', changes, () => told.at(-1)?.names[0] === 'web');
    await until('that the other one is being asked', changes, () => held.length > 0);
    expect(told.filter(({ complete }) => complete)).toEqual([]);
    hung.close();
    for (const socket of held) socket.destroy();
    await until('that nobody else is there', changes, () => told.at(-1)?.complete === true);
    expect(told.at(-1)).toEqual({ names: ['web'], complete: true });
  } finally {
    await machines.close();
  }
});
