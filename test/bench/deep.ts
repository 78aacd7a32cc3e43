/**
 * make bench: measures the time to show a disk with a deep chain, and QEMU's own share of it: the three questions that
 * the service asks, sent by bare QMP. In turns, in one run.
 */

import { present } from '../support/checks.ts';
import { deepChain } from '../support/real-qemu/deep-chain.ts';
import { type Qemu, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';

const DEPTHS = [20, 80, 260];
const ROUNDS = 12;

async function byBareQmp({ admin }: Qemu): Promise<void> {
  const nodes = admin.execute('query-named-block-nodes', { flat: true });
  await Promise.all([admin.execute('query-blockstats'), nodes, admin.execute('x-debug-query-block-graph')]);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

function median(samples: readonly number[]): string {
  const middle = present(samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)]);
  return `${(middle / 1000).toFixed(2)} s`;
}

process.stdout.write(`\nA disk is shown, ${ROUNDS} rounds, medians:\n\n`);
process.stdout.write('| images in its chain | GetDomain | bare QMP |\n|---|---|---|\n');
for (const depth of DEPTHS) {
  await using dir = await testDir();
  const chain = await deepChain(dir.path, { depth, sizeBytes: 1 << 20 });
  await using qemu = await startQemu({ style: 'blockdev', disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] });
  await using service = await Service.start({ dir: dir.path, qmp: { deep: qemu.qmpPath }, allow: [] });
  await service.domainUp('deep');
  const [shown, asked]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    shown.push(await timed(async () => await service.getDomain('deep')));
    asked.push(await timed(async () => await byBareQmp(qemu)));
  }
  process.stdout.write(`| ${depth} | ${median(shown)} | ${median(asked)} |\n`);
}
