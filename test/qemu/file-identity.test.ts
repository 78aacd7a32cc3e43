/**
 * A path is a name; a file is the one that QEMU has open. Real mount namespaces, chroots, descriptors and loop devices.
 */
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, link, mkdir, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, ImageFormat, Job_State } from '../../generated/blockjob/v1/job.ts';
import { monitorIn, present } from '../support/checks.ts';
import { LoopDevice } from '../support/images/loop-device.ts';
import { canMount, overlayFileSystem } from '../support/images/small-file-system.ts';
import { needs } from '../support/means.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { run, startQemu } from '../support/real-qemu/qemu.ts';
import { PID_NAMESPACE } from '../support/real-qemu/sights.ts';
import { byId, refused } from '../support/service/caller.ts';

const { DESTINATION_CONTENT_COMPLETE: COMPLETE } = DestinationContent;
const TREASURE = Buffer.alloc(MIB, 0x77);

let site: Site;

function to({ disk }: Pick<Machine, 'disk'>, path: string, format: ImageFormat = ImageFormat.IMAGE_FORMAT_UNSPECIFIED) {
  return { disk, destination: { target: { $case: 'file', value: path }, format } } as const;
}

/** A copy of the whole disk, until the guest is on it. */
async function pivoted(machine: Machine, path: string) {
  const { id } = await site.service.startCopy(to(machine, path));
  await site.service.until(id, 'STATE_READY');
  return await site.service.abort({ job: byId(id), pivot: true });
}

describe('a service in another mount namespace than QEMU', () => {
  let machine: Machine;
  let folder: string;

  beforeAll(async () => {
    site = await Site.open();
    machine = await site.machine();
    folder = join(machine.dir, 'out');
    await mkdir(folder);
    // As with PrivateTmp: the files of that folder are for the service alone.
    site.under = ['unshare', '--mount', 'sh', '-c', `mount -t tmpfs tmpfs ${folder} && exec "$@"`, 'sh'];
    await site.restart('SIGTERM', machine.disk.domain);
  });

  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
    await site[Symbol.asyncDispose]();
  });

  test('overwrites no file that only QEMU sees there: the start is refused, and nothing is made', async () => {
    const path = join(folder, 'new.qcow2');
    await writeFile(path, TREASURE);
    expect(await refused(site.service.startCopy(to(machine, path)))).toMatchObject({
      reason: 'PATH_DIFFERS_IN_QEMU',
      metadata: { path, domain: machine.disk.domain },
    });
    expect(readFileSync(path).equals(TREASURE)).toBe(true);
    expect(await machine.qemu.admin.execute('query-jobs')).toEqual([]);
    expect(await site.service.listLeftovers()).toEqual([]);
  });

  test('copies if both see the same files', async () => {
    const job = await pivoted(machine, join(machine.dir, 'same.qcow2'));
    expect(job.outcome?.destinationContent).toBe(COMPLETE);
  });

  test('and without sight of QEMU’s process the file that QEMU opens is not the one that was made', async () => {
    const path = join(folder, 'unseen.raw');
    await writeFile(path, TREASURE);
    const [unshare = '', ...rest] = PID_NAMESPACE.under;
    const hide = ['sh', '-c', `mount -t tmpfs tmpfs ${folder} && exec "$@"`, 'sh'];
    site.under = [unshare, '--mount', ...rest, ...hide];
    await site.restart('SIGTERM', machine.disk.domain);
    const request = to(machine, path, ImageFormat.IMAGE_FORMAT_RAW);
    expect(await refused(site.service.startCopy(request))).toMatchObject({ reason: 'PATH_DIFFERS_IN_QEMU' });
    expect(readFileSync(path).equals(TREASURE)).toBe(true);
    expect(await site.service.listLeftovers()).toEqual([]);
  });
});

describe.each(['blockdev', 'drive'] as const)('a service that does not see QEMU’s process, style %s', (style) => {
  let machine: Machine;

  beforeAll(async () => {
    site = await Site.open();
    machine = await site.machine({ style });
    site.under = PID_NAMESPACE.under;
    await site.restart('SIGTERM', machine.disk.domain);
  });

  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
    await site[Symbol.asyncDispose]();
  });

  test('deletes an image that matches QEMU’s answers, and no other file at its name', async () => {
    expect((await site.service.getDomain(machine.disk.domain)).qemuPid).toBe(0);
    const [base, middle] = [present(machine.chain[0]).path, present(machine.chain[1]).path];
    const request = { disk: machine.disk, top: middle, base, flags: [CommitFlag.COMMIT_FLAG_DELETE] };
    await rename(middle, `${middle}.moved`);
    await writeFile(middle, TREASURE);
    expect(await refused(site.service.commit(request))).toMatchObject({ reason: 'FILE_NOT_KNOWN' });
    expect(readFileSync(middle).equals(TREASURE)).toBe(true);
    await rename(`${middle}.moved`, middle);
    const job = await site.ended(await site.service.commit(request));
    expect([job.state, existsSync(middle)]).toEqual([Job_State.STATE_COMPLETED, false]);
  });

  test.each([ImageFormat.IMAGE_FORMAT_QCOW2, ImageFormat.IMAGE_FORMAT_RAW])(
    'copies, and names the image that the guest has left: format %i',
    async (format) => {
      const { disks } = await site.service.getDomain(machine.disk.domain);
      const source = present(disks[0]?.chain[0]).path;
      const path = join(machine.dir, `copy-${format}`);
      const { id } = await site.service.startCopy(to(machine, path, format));
      await site.service.until(id, 'STATE_READY');
      const { outcome } = await site.service.abort({ job: byId(id), pivot: true });
      expect(outcome).toMatchObject({ guestWritesTo: path, safeToDelete: [{ path: source }] });
      // And into an existing file.
      const reused = join(machine.dir, `reused-${format}`);
      await run('qemu-img', [
        'create',
        '-q',
        '-f',
        format === ImageFormat.IMAGE_FORMAT_RAW ? 'raw' : 'qcow2',
        reused,
        String(4 * MIB),
      ]);
      const again = await site.service.startCopy({ ...to(machine, reused, format), reuseExternal: true });
      await site.service.until(again.id, 'STATE_READY');
      await site.service.abort({ job: byId(again.id) });
    },
  );
});

describe('a file by another name', () => {
  beforeAll(async () => {
    site = await Site.open(['/dev']);
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test('a QEMU in a chroot: it would open another file there', async () => {
    await using plain = await site.machine();
    const root = join(plain.dir, 'root');
    await mkdir(join(root, plain.dir), { recursive: true });
    const path = join(plain.dir, 'new.qcow2');
    await writeFile(join(root, path), TREASURE);
    const name = 'chrooted';
    await using _qemu = await startQemu({
      style: 'blockdev',
      name,
      disks: [{ id: 'disk0', bus: 'virtio-blk', chain: [await spare(plain)] }],
      extraArgs: [...monitorIn(site.sockets, name), ...(await chroot(root))],
    });
    await site.service.domainUp(name);
    const disk = { domain: name, disk: 'disk0' };
    expect(await refused(site.service.startCopy(to({ disk }, path)))).toMatchObject({
      reason: 'PATH_DIFFERS_IN_QEMU',
    });
    expect(readFileSync(join(root, path)).equals(TREASURE)).toBe(true);
    expect(existsSync(path)).toBe(false);
  });

  test.skipIf(needs('loop'))('a loop device over the disk’s own file is in use', async () => {
    await using machine = await site.machine({ formats: ['raw'] });
    const before = readFileSync(machine.top.path);
    using device = await LoopDevice.over(machine.top.path);
    const target = { $case: 'blockDevice', value: device.path } as const;
    const start = site.service.startCopy({ disk: machine.disk, destination: { target }, reuseExternal: true });
    expect(await refused(start)).toMatchObject({ reason: 'DESTINATION_IN_USE', metadata: { path: device.path } });
    expect(readFileSync(machine.top.path).equals(before)).toBe(true);
  });

  test.skipIf(needs('loop'))('a device that the guest has left is named', async () => {
    await using machine = await site.machine({ formats: ['raw'] });
    using device = await LoopDevice.make(machine.dir, 4 * MIB);
    const target = { $case: 'blockDevice', value: device.path } as const;
    const destination = { target, format: ImageFormat.IMAGE_FORMAT_RAW };
    const there = await site.service.startCopy({ disk: machine.disk, destination, reuseExternal: true });
    await site.service.until(there.id, 'STATE_READY');
    await site.service.abort({ job: byId(there.id), pivot: true });
    const job = await pivoted(machine, join(machine.dir, 'back'));
    expect(job.outcome?.safeToDelete.map(({ path }) => path)).toEqual([device.path]);
  });

  test('an image that was replaced while QEMU has it open is not deleted, nor is it named', async () => {
    await using machine = await site.machine();
    const middle = present(machine.chain[1]).path;
    await rename(middle, `${middle}.moved`);
    await writeFile(middle, TREASURE);
    const request = { disk: machine.disk, top: 'disk0[1]', base: 'disk0[2]' };
    const flags = [CommitFlag.COMMIT_FLAG_DELETE];
    expect(await refused(site.service.commit({ ...request, flags }))).toMatchObject({
      reason: 'FILE_NOT_KNOWN',
      metadata: { path: middle },
    });
    const job = await site.ended(await site.service.commit(request));
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    expect(job.outcome?.safeToDelete).toEqual([]);
    expect(readFileSync(middle).equals(TREASURE)).toBe(true);
  });

  test('an image that was replaced gets no new header: it could not be read back', async () => {
    await using machine = await site.machine();
    const { disk, top } = machine;
    const differs = (path: string) => ({ reason: 'PATH_DIFFERS_IN_QEMU', metadata: { path, domain: disk.domain } });
    await rename(top.path, `${top.path}.moved`);
    // With the header that it had before.
    await copyFile(`${top.path}.moved`, top.path);
    const before = readFileSync(top.path);
    expect(await refused(site.service.rebase({ disk }))).toMatchObject(differs(top.path));
    const lower = site.service.commit({ disk, top: 'disk0[1]', base: 'disk0[2]' });
    expect(await refused(lower)).toMatchObject(differs(top.path));
    await rename(`${top.path}.moved`, top.path);
    expect((await site.ended(await site.service.rebase({ disk }))).state).toBe(Job_State.STATE_COMPLETED);
    expect(readFileSync(top.path).equals(before)).toBe(false);
  });

  test('the new image under the old one’s name: the guest’s disk is never called safe to delete', async () => {
    await using machine = await site.machine();
    const path = join(machine.dir, 'copy');
    const job = await pivoted(machine, path);
    const named = async () => (await site.service.getInfo(job.id)).outcome?.safeToDelete.map((one) => one.path);
    expect(await named()).toEqual([machine.top.path]);
    await rename(path, machine.top.path);
    expect(await named()).toEqual([]);
  });

  test('nor is a file that has got the old one’s name', async () => {
    await using machine = await site.machine();
    const job = await pivoted(machine, join(machine.dir, 'copy'));
    await rename(machine.top.path, `${machine.top.path}.kept`);
    await writeFile(machine.top.path, TREASURE);
    expect((await site.service.getInfo(job.id)).outcome?.safeToDelete).toEqual([]);
  });

  test('nor one that a process has open which no monitor reports', async () => {
    await using machine = await site.machine();
    const job = await pivoted(machine, join(machine.dir, 'copy'));
    await link(machine.top.path, join(machine.dir, 'hard'));
    await using _stranger = await startQemu({
      style: 'blockdev',
      disks: [
        {
          id: 'disk0',
          bus: 'virtio-blk',
          chain: [...machine.chain.slice(0, -1), { ...machine.top, path: join(machine.dir, 'hard') }],
        },
      ],
    });
    expect((await site.service.getInfo(job.id)).outcome?.safeToDelete).toEqual([]);
  });

  test.skipIf(!canMount())('nor one on an overlay that such a process has locked', async () => {
    await using machine = await site.machine();
    await using overlay = await overlayFileSystem(machine.dir);
    const left = join(overlay.path, 'left.qcow2');
    await pivoted(machine, left);
    const job = await pivoted(machine, join(machine.dir, 'copy'));
    const named = async () => (await site.service.getInfo(job.id)).outcome?.safeToDelete.map(({ path }) => path);
    expect(await named()).toEqual([left]);
    const image = { path: left, format: 'qcow2' } as const;
    await using _stranger = await startQemu({
      style: 'blockdev',
      disks: [{ id: 'disk0', bus: 'virtio-blk', chain: [image] }],
    });
    expect(await named()).toEqual([]);
  });

  test('a disk of descriptors: its files are known by their real names', async () => {
    await using machine = await site.machine();
    const { top } = machine;
    const [disk] = (await site.service.getDomain(machine.disk.domain)).disks;
    expect(disk?.chain[0]?.path).toBe(top.path);
    const name = 'descriptors';
    const image = await spare(machine);
    // QEMU takes the descriptor of a set that has the needed rights.
    const inherit = `exec 8<"$1" 9<>"$1"; shift; exec "$@"`;
    await using _qemu = await startQemu({
      style: 'blockdev',
      name,
      under: ['sh', '-c', inherit, 'sh', image.path],
      disks: [{ id: 'disk0', bus: 'virtio-blk', chain: [{ ...image, path: '/dev/fdset/7' }] }],
      extraArgs: ['-add-fd', 'fd=8,set=7', '-add-fd', 'fd=9,set=7', ...monitorIn(site.sockets, name)],
    });
    await site.service.domainUp(name);
    const [one] = (await site.service.getDomain(name)).disks;
    expect(one?.chain[0]?.path).toBe(image.path);
    const over = join(machine.dir, 'over.qcow2');
    const at = { domain: name, disk: 'disk0' };
    expect(
      await refused(site.service.startCopy({ ...to({ disk: at }, image.path), reuseExternal: true })),
    ).toMatchObject({
      reason: 'DESTINATION_IN_USE',
    });
    const { id } = await site.service.startCopy(to({ disk: at }, over));
    await site.service.until(id, 'STATE_READY');
    const { outcome } = await site.service.abort({ job: byId(id), pivot: true });
    expect(outcome).toMatchObject({ guestWritesTo: over, destinationContent: COMPLETE });
    // QEMU keeps its descriptors until a client removes them.
    expect(outcome?.safeToDelete).toEqual([]);
  });
});

/** One more image, with nothing below it. */
async function spare({ dir }: Machine) {
  const path = join(dir, 'spare.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(MIB)]);
  expect((await stat(path)).isFile()).toBe(true);
  return { path, format: 'qcow2' } as const;
}

/** The options of this QEMU: the old option is gone from 10 on. */
async function chroot(folder: string): Promise<readonly string[]> {
  const { stdout } = await run('qemu-system-x86_64', ['--help']);
  return /^-chroot /m.test(stdout) ? ['-chroot', folder] : ['-run-with', `chroot=${folder}`];
}
