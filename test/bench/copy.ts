/**
 * make bench: measures the time from the request until the guest runs on its copy, with this service, with libvirt, and
 * with bare QMP, on which both are built. All copy an image with the same contents, on the same QEMU.
 */
import { join } from 'node:path';
import { PROGRAM } from '../../build/places.ts';
import { OnReady } from '../../generated/blockjob/v1/job.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { Libvirt } from '../support/real-qemu/libvirt.ts';
import { run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { copyByBareQmp, copying } from './copies.ts';
import type { Figure } from './figure.ts';
import { type Contender, inTurns, rounds, seconds } from './turns.ts';

const SIZES_MIB = [64, 1024];
const ROUNDS = 12;

/** Copies the disk to a new image at the path, and pivots to it. */
type Way = (path: string) => Promise<unknown>;

function timed(by: string, first: { readonly dir: string; readonly image: string }, copy: Way): Contender {
  return copying(by, first, async (path) => [await seconds(async () => await copy(path))]);
}

async function makeImage(path: string, mib: number): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, `${mib}M`]);
  await run('qemu-io', ['-f', 'qcow2', '-c', `write -q -P 7 0 ${mib}M`, path]);
}

async function bare(mib: number, held: AsyncDisposableStack): Promise<Contender> {
  const { path: dir } = held.use(await testDir('bj-bare-'));
  const image = join(dir, 'first.qcow2');
  await makeImage(image, mib);
  const chain = [{ format: 'qcow2', path: image }] as const;
  const qemu = held.use(await startQemu({ style: 'blockdev', disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] }));
  return timed('bare QMP', { dir, image }, async (path) => await copyByBareQmp(qemu, mib * MIB, path));
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
  return timed('a connected client', { dir, image: top.path }, copy);
}

async function byOurCommand(site: Site, mib: number, held: AsyncDisposableStack): Promise<Contender> {
  const { disk, dir, top } = await ours(site, mib, held);
  const command = [join(PROGRAM, 'bin/blockjob'), '--address', site.service.address];
  const copy: Way = async (path) =>
    await run(process.execPath, [...command, 'copy', disk.domain, disk.disk, '--dest', path, '--wait', '--pivot']);
  return timed('`blockjob copy`', { dir, image: top.path }, copy);
}

async function byVirsh(libvirt: Libvirt, mib: number): Promise<Contender> {
  const name = `of-${mib}`;
  const image = join(libvirt.dir, `${name}.qcow2`);
  await libvirt.own(image, async (path) => await makeImage(path, mib));
  await libvirt.create(name, image);
  const copy: Way = async (path) =>
    await libvirt.virsh(['blockcopy', name, 'vda', '--dest', path, '--wait', '--pivot']);
  return timed('`virsh blockcopy`', { dir: libvirt.dir, image }, copy);
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
