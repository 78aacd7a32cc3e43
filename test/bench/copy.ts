/**
 * make bench: measures the time from the request until the guest runs on its copy, with this service, with libvirt, and
 * with bare QMP, on which both are built. All copy an image with the same contents, on the same QEMU, in turns.
 */
import { rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROGRAM } from '../../build/places.ts';
import { OnReady } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { Libvirt } from '../support/real-qemu/libvirt.ts';
import { type Qemu, type QmpEvent, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';

const SIZES_MIB = [64, 1024];
const ROUNDS = 12;
const LOOK_MS = 2;

/** Copies its disk to a new image at the path, and pivots to it. */
type Way = (path: string) => Promise<unknown>;

interface Contender {
  readonly name: string;
  readonly dir: string;
  readonly copy: Way;
  /** Milliseconds of each copy. */
  readonly times: number[];
  /** The image that its guest is on. */
  image: string;
}

async function makeImage(path: string, mib: number): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, `${mib}M`]);
  await run('qemu-io', ['-f', 'qcow2', '-c', `write -q -P 7 0 ${mib}M`, path]);
}

/** The shortest sequence of commands: without checks, without a journal, without undo. */
async function byBareQmp({ admin }: Qemu, mib: number, path: string): Promise<void> {
  const node = basename(path, '.qcow2');
  const ended = async (job: string, status: string) => {
    const said = ({ event, data }: QmpEvent) =>
      event === 'JOB_STATUS_CHANGE' && data['id'] === job && data['status'] === status;
    while (!admin.events.some(said)) await sleep(LOOK_MS);
  };
  await writeFile(path, '');
  await admin.execute('blockdev-add', { driver: 'file', 'node-name': `${node}-file`, filename: path });
  const options = { driver: 'qcow2', file: `${node}-file`, size: mib * MIB };
  await admin.execute('blockdev-create', { 'job-id': `make-${node}`, options });
  await ended(`make-${node}`, 'concluded');
  await admin.execute('job-dismiss', { id: `make-${node}` });
  await admin.execute('blockdev-add', { driver: 'qcow2', 'node-name': node, file: `${node}-file` });
  const device = present((await admin.block('disk0')).inserted)['node-name'];
  await admin.execute('blockdev-mirror', { 'job-id': node, device, target: node, sync: 'full' });
  await ended(node, 'ready');
  await admin.execute('job-complete', { id: node });
  await ended(node, 'null');
  // An open image keeps its memory and its space on the disk, also after it is removed.
  await admin.execute('blockdev-del', { 'node-name': device });
  await admin.execute('blockdev-del', { 'node-name': `${device}-file` });
}

function median(samples: readonly number[]): number {
  return present(samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)]);
}

async function bare(mib: number, held: AsyncDisposableStack): Promise<Contender> {
  const { path: dir } = held.use(await testDir('bj-bare-'));
  const image = join(dir, 'first.qcow2');
  await makeImage(image, mib);
  const chain = [{ format: 'qcow2', path: image }] as const;
  const qemu = held.use(await startQemu({ style: 'blockdev', disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] }));
  return { name: 'bare QMP', dir, image, times: [], copy: async (path) => await byBareQmp(qemu, mib, path) };
}

async function ours(site: Site, mib: number, held: AsyncDisposableStack): Promise<Machine> {
  const machine = held.use(await site.machine({ formats: ['qcow2'], sizeBytes: mib * MIB }));
  for (let at = 0; at < mib; at += 64) await machine.qemu.admin.hmpQemuIo('disk0', `write -P 7 ${at}M 64M`);
  return machine;
}

async function byOneCall(site: Site, mib: number, held: AsyncDisposableStack): Promise<Contender> {
  const { disk, dir, top } = await ours(site, mib, held);
  const copy: Way = async (path) => {
    const destination = { target: { $case: 'file', value: path } } as const;
    await site.ended(await site.service.startCopy({ disk, destination, onReady: OnReady.ON_READY_PIVOT }));
  };
  return { name: 'StartCopy and WatchJob', dir, image: top.path, times: [], copy };
}

async function byOurCommand(site: Site, mib: number, held: AsyncDisposableStack): Promise<Contender> {
  const { disk, dir, top } = await ours(site, mib, held);
  const command = [join(PROGRAM, 'bin/blockjob'), '--address', site.service.address];
  const copy: Way = async (path) =>
    await run(process.execPath, [...command, 'copy', disk.domain, disk.disk, '--dest', path, '--wait', '--pivot']);
  return { name: '`blockjob copy --wait --pivot`', dir, image: top.path, times: [], copy };
}

async function byVirsh(libvirt: Libvirt, mib: number): Promise<Contender> {
  const name = `of-${mib}`;
  const image = join(libvirt.dir, `${name}.qcow2`);
  await libvirt.own(image, async (path) => await makeImage(path, mib));
  await libvirt.create(name, image);
  const copy: Way = async (path) =>
    await libvirt.virsh(['blockcopy', name, 'vda', '--dest', path, '--wait', '--pivot']);
  return { name: '`virsh blockcopy --wait --pivot`', dir: libvirt.dir, image, times: [], copy };
}

/** Each round has another order. Before each copy all data of the earlier ones is written to the disk. */
async function race(contenders: readonly Contender[], mib: number): Promise<void> {
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const one of shuffled(contenders)) {
      const next = join(one.dir, `copy-${mib}-${round}.qcow2`);
      await run('sync', []);
      const begun = performance.now();
      await one.copy(next);
      // The first round warms up.
      if (round > 0) one.times.push(performance.now() - begun);
      await rm(one.image);
      one.image = next;
    }
  }
}

function shuffled<T>(all: readonly T[]): T[] {
  return all
    .map((one) => ({ one, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ one }) => one);
}

process.stdout.write(
  `Copies with pivot, ${ROUNDS} rounds, each in another order; medians, and how many times as long as virsh:\n\n`,
);
process.stdout.write('| disk | by | time | to virsh |\n|---|---|---|---|\n');
await using site = await Site.open();
await using libvirt = await Libvirt.start();
for (const mib of SIZES_MIB) {
  await using held = new AsyncDisposableStack();
  const virsh = await byVirsh(libvirt, mib);
  const contenders = [
    virsh,
    await byOurCommand(site, mib, held),
    await byOneCall(site, mib, held),
    await bare(mib, held),
  ];
  await race(contenders, mib);
  for (const { name, times } of contenders) {
    const ratio = (median(times) / median(virsh.times)).toFixed(2);
    process.stdout.write(`| ${mib} MiB | ${name} | ${(median(times) / 1000).toFixed(2)} s | ${ratio} |\n`);
  }
}
