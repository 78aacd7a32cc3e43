/**
 * make bench: measures how long a connected client waits for the two answers of a copy, over many small copies in turns
 * with the same steps by bare QMP. Each has one QEMU.
 */
import { present } from '../support/checks.ts';
import { useOf } from '../support/memory.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { makeChain, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';
import { copyByBareQmp, copying, type Trip } from './copies.ts';
import type { Figure } from './figure.ts';
import { type Contender, inTurns, rounds } from './turns.ts';

const ROUNDS = 200;
/** Node compiles what it runs often. */
const WARM_UP = 20;
const SIZE_BYTES = 4 * MIB;
const MEASURED = [
  { what: 'StartCopy answered', unit: 'ms' },
  { what: 'READY until the pivot is answered', unit: 'ms' },
];
const OURS = 'a connected client';

async function tripByCalls({ service }: Site, { disk }: Machine, path: string): Promise<Trip> {
  const begun = performance.now();
  const { id } = await service.startCopy({ disk, destination: { target: { $case: 'file', value: path } } });
  const started = performance.now();
  await service.until(id, 'STATE_READY');
  const ready = performance.now();
  await service.abort({ job: byId(id), pivot: true });
  return { startedMs: started - begun, pivotedMs: performance.now() - ready };
}

function travelling(
  by: string,
  first: { readonly dir: string; readonly image: string },
  go: (path: string) => Promise<Trip>,
): Contender {
  return copying(by, first, async (path) => {
    const { startedMs, pivotedMs } = await go(path);
    return [startedMs, pivotedMs];
  });
}

async function bare(held: AsyncDisposableStack): Promise<Contender> {
  const { path: dir } = held.use(await testDir('bj-bare-'));
  const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: SIZE_BYTES });
  const qemu = held.use(await startQemu({ style: 'blockdev', disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] }));
  const first = { dir, image: present(chain[0]).path };
  return travelling('bare QMP', first, async (path) => await copyByBareQmp(qemu, SIZE_BYTES, path));
}

/** Each value is of one copy; the CPU time of the service is the mean of all. */
export async function measure(): Promise<readonly Figure[]> {
  await using site = await Site.open();
  await using held = new AsyncDisposableStack();
  const machine = held.use(await site.machine({ formats: ['qcow2'], sizeBytes: SIZE_BYTES }));
  const { dir, top } = machine;
  const ours = travelling(OURS, { dir, image: top.path }, async (path) => await tripByCalls(site, machine, path));
  const both = [ours, await bare(held)];
  await inTurns(MEASURED, both, WARM_UP);
  const before = useOf(site.service);
  const figures = await inTurns(MEASURED, both, rounds(ROUNDS));
  const eachMs = (useOf(site.service).cpuMs - before.cpuMs) / (rounds(ROUNDS) + 1);
  return [...figures, { what: 'CPU time of the service for a copy', by: OURS, unit: 'ms', values: [eachMs] }];
}
