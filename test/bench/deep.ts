/**
 * make bench: measures the time to show a disk with a deep chain, and QEMU's own share of it: the three questions that
 * the service asks, sent by bare QMP.
 */
import { deepChain } from '../support/real-qemu/deep-chain.ts';
import { type Qemu, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';
import type { Figure } from './figure.ts';
import { inTurns, rounds, seconds } from './turns.ts';

const DEPTHS = [20, 80, 260];
const ROUNDS = 12;

async function byBareQmp({ admin }: Qemu): Promise<void> {
  const nodes = admin.execute('query-named-block-nodes', { flat: true });
  await Promise.all([admin.execute('query-blockstats'), nodes, admin.execute('x-debug-query-block-graph')]);
}

async function measureAt(depth: number): Promise<readonly Figure[]> {
  await using dir = await testDir();
  const chain = await deepChain(dir.path, { depth, sizeBytes: 1 << 20 });
  await using qemu = await startQemu({ style: 'blockdev', disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] });
  await using service = await Service.start({ dir: dir.path, qmp: { deep: qemu.qmpPath }, allow: [] });
  await service.domainUp('deep');
  const contenders = [
    { by: '`GetDomain`', once: async () => [await seconds(async () => await service.getDomain('deep'))] },
    { by: 'bare QMP', once: async () => [await seconds(async () => await byBareQmp(qemu))] },
  ];
  return await inTurns([{ what: String(depth), unit: 's' }], contenders, rounds(ROUNDS));
}

export async function measure(): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const depth of DEPTHS) figures.push(...(await measureAt(depth)));
  return figures;
}
