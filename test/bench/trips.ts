/**
 * make bench: measures how long a connected client waits for the two answers of a copy, over many small copies in turns
 * with the same steps by bare QMP, which has no checks, no journal and no undo. Each has one QEMU.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { present } from '../support/checks.ts';
import { useOf } from '../support/memory.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { makeChain, type Qemu, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';
import type { Figure } from './figure.ts';

const COPIES = 200;
/** The first ones warm up. */
const UNCOUNTED = 20;
const SIZE_BYTES = 4 * MIB;
const LOOK_MS = 1;

interface Trip {
  readonly startedMs: number;
  readonly pivotedMs: number;
}

/** Copies the disk to a new image at the path, and pivots to it. */
type Way = (path: string) => Promise<Trip>;

interface Traveller {
  readonly by: string;
  readonly dir: string;
  readonly copy: Way;
  /** The image that the guest is on. */
  image: string;
  readonly trips: Trip[];
}

function byCalls({ service }: Site, { disk }: Machine): Way {
  return async (path) => {
    const begun = performance.now();
    const { id } = await service.startCopy({ disk, destination: { target: { $case: 'file', value: path } } });
    const started = performance.now();
    await service.until(id, 'STATE_READY');
    const ready = performance.now();
    await service.abort({ job: byId(id), pivot: true });
    return { startedMs: started - begun, pivotedMs: performance.now() - ready };
  };
}

/** The shortest sequence of commands. The begin of the pivot is when its command is sent; its end is QEMU's own word. */
function byBareQmp({ admin }: Qemu): Way {
  const at = async (job: string, status: string) => {
    for (;;) {
      const said = admin.events.find(
        ({ event, data }) => event === 'JOB_STATUS_CHANGE' && data['id'] === job && data['status'] === status,
      );
      if (said !== undefined) return said.timeMs - performance.timeOrigin;
      await sleep(LOOK_MS);
    }
  };
  return async (path) => {
    admin.events.length = 0;
    const device = present((await admin.block('disk0')).inserted)['node-name'];
    const begun = performance.now();
    const node = `copy${Math.trunc(begun)}`;
    await writeFile(path, '');
    await admin.execute('blockdev-add', { driver: 'file', 'node-name': `${node}-file`, filename: path });
    const options = { driver: 'qcow2', file: `${node}-file`, size: SIZE_BYTES };
    await admin.execute('blockdev-create', { 'job-id': `make-${node}`, options });
    await at(`make-${node}`, 'concluded');
    await admin.execute('job-dismiss', { id: `make-${node}` });
    await admin.execute('blockdev-add', { driver: 'qcow2', 'node-name': node, file: `${node}-file` });
    await admin.execute('blockdev-mirror', { 'job-id': node, device, target: node, sync: 'full' });
    const started = performance.now();
    await at(node, 'ready');
    const ready = performance.now();
    await admin.execute('job-complete', { id: node });
    const concluded = await at(node, 'concluded');
    await at(node, 'null');
    await admin.execute('blockdev-del', { 'node-name': device });
    await admin.execute('blockdev-del', { 'node-name': `${device}-file` });
    return { startedMs: started - begun, pivotedMs: concluded - ready };
  };
}

async function bare(held: AsyncDisposableStack): Promise<Omit<Traveller, 'trips'>> {
  const { path: dir } = held.use(await testDir('bj-bare-'));
  const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: SIZE_BYTES });
  const qemu = held.use(await startQemu({ style: 'blockdev', disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] }));
  return { by: 'bare QMP', dir, image: present(chain[0]).path, copy: byBareQmp(qemu) };
}

/** Some hundred copies by each, in turns: each value is of one copy, and the CPU time of the service is for each. */
export async function measure(): Promise<readonly Figure[]> {
  await using site = await Site.open();
  await using held = new AsyncDisposableStack();
  const machine = held.use(await site.machine({ formats: ['qcow2'], sizeBytes: SIZE_BYTES }));
  const { dir, top } = machine;
  const ours = { by: 'a connected client', dir, image: top.path, copy: byCalls(site, machine), trips: [] };
  const travellers: readonly Traveller[] = [ours, { ...(await bare(held)), trips: [] }];
  let cpuMs = 0;
  for (let number = 0; number < UNCOUNTED + COPIES; number += 1) {
    if (number === UNCOUNTED) cpuMs = useOf(site.service).cpuMs;
    for (const one of travellers) {
      const next = join(one.dir, `copy-${number}.qcow2`);
      const trip = await one.copy(next);
      if (number >= UNCOUNTED) one.trips.push(trip);
      await rm(one.image);
      one.image = next;
    }
  }
  const cpu = (useOf(site.service).cpuMs - cpuMs) / COPIES;
  const figures = travellers.flatMap(({ by, trips }) => [
    { what: 'StartCopy answered', by, unit: 'ms', values: trips.map(({ startedMs }) => startedMs) },
    { what: 'READY until the pivot is answered', by, unit: 'ms', values: trips.map(({ pivotedMs }) => pivotedMs) },
  ]);
  return [...figures, { what: 'CPU time of the service for a copy', by: ours.by, unit: 'ms', values: [cpu] }];
}

function part(values: readonly number[], share: number): string {
  const sorted = values.toSorted((a, b) => a - b);
  return present(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]).toFixed(1);
}

if (import.meta.main) {
  process.stdout.write('| what | by | least | median | 90 % | 99 % |\n|---|---|---|---|---|---|\n');
  for (const { what, by, unit, values } of await measure()) {
    const parts = [0, 0.5, 0.9, 0.99].map((share) => `${part(values, share)} ${unit}`);
    process.stdout.write(`| ${what} | ${by} | ${parts.join(' | ')} |\n`);
  }
}
