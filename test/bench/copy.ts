/**
 * make bench: measures the time from the request until the guest runs on its copy, with this service, with libvirt, and
 * with bare QMP, on which both are built. All copy an image with the same contents, on the same QEMU.
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
import type { Figure } from './figure.ts';
import { type Contender, inTurns, rounds, seconds } from './turns.ts';

const SIZES_MIB = [64, 1024];
const ROUNDS = 12;
const LOOK_MS = 2;

/** Copies its disk to a new image at the path, and pivots to it. */
type Way = (path: string) => Promise<unknown>;

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

/** Each time the guest is on the copy of the last time. */
function copying(by: string, dir: string, first: string, copy: Way): Contender {
  let [image, number] = [first, 0];
  const once = async () => {
    number += 1;
    const next = join(dir, `${basename(first, '.qcow2')}-${number}.qcow2`);
    const took = await seconds(async () => await copy(next));
    await rm(image);
    image = next;
    return [took];
  };
  return { by, once };
}

async function bare(mib: number, held: AsyncDisposableStack): Promise<Contender> {
  const { path: dir } = held.use(await testDir('bj-bare-'));
  const image = join(dir, 'first.qcow2');
  await makeImage(image, mib);
  const chain = [{ format: 'qcow2', path: image }] as const;
  const qemu = held.use(await startQemu({ style: 'blockdev', disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] }));
  return copying('bare QMP', dir, image, async (path) => await byBareQmp(qemu, mib, path));
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
  return copying('a connected client', dir, top.path, copy);
}

async function byOurCommand(site: Site, mib: number, held: AsyncDisposableStack): Promise<Contender> {
  const { disk, dir, top } = await ours(site, mib, held);
  const command = [join(PROGRAM, 'bin/blockjob'), '--address', site.service.address];
  const copy: Way = async (path) =>
    await run(process.execPath, [...command, 'copy', disk.domain, disk.disk, '--dest', path, '--wait', '--pivot']);
  return copying('`blockjob copy`', dir, top.path, copy);
}

async function byVirsh(libvirt: Libvirt, mib: number): Promise<Contender> {
  const name = `of-${mib}`;
  const image = join(libvirt.dir, `${name}.qcow2`);
  await libvirt.own(image, async (path) => await makeImage(path, mib));
  await libvirt.create(name, image);
  const copy: Way = async (path) =>
    await libvirt.virsh(['blockcopy', name, 'vda', '--dest', path, '--wait', '--pivot']);
  return copying('`virsh blockcopy`', libvirt.dir, image, copy);
}

export async function measure(): Promise<readonly Figure[]> {
  await using site = await Site.open();
  await using libvirt = await Libvirt.start();
  const figures: Figure[] = [];
  for (const mib of SIZES_MIB) {
    await using held = new AsyncDisposableStack();
    const contenders = [
      await byVirsh(libvirt, mib),
      await byOurCommand(site, mib, held),
      await byOneCall(site, mib, held),
      await bare(mib, held),
    ];
    figures.push(...(await inTurns([{ what: `${mib} MiB`, unit: 's' }], contenders, rounds(ROUNDS))));
  }
  return figures;
}
