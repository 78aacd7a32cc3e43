/**
 * The facts about QEMU's limits of a disk on which the throttle of a guest is built (docs/decisions/guests.md, 72).
 * Here the test itself is the client of QEMU, without the service.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { NbdServer } from '../support/images/nbd-server.ts';
import { MIB } from '../support/real-qemu/bench-qemu.ts';
import { type Admin, makeChain, startQemu, testDir } from '../support/real-qemu/qemu.ts';

const MARK = 'bj0123456789abcdef';
const NO_LIMITS = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };
/** The highest limit that QEMU takes. */
const MOST = 1e15;
const SIZE_BYTES = 16 * MIB;

interface Limits {
  readonly group?: string;
  readonly bps_wr: number;
  readonly iops: number;
}

async function limitsOf(admin: Admin, disk: string): Promise<Limits> {
  const { inserted } = await admin.block(disk);
  return inserted as unknown as Limits;
}

async function limit(admin: Admin, disk: string, more: Record<string, unknown>): Promise<void> {
  const { qdev } = await admin.block(disk);
  await admin.execute('block_set_io_throttle', { id: qdev, ...NO_LIMITS, ...more });
}

async function started() {
  await using made = new AsyncDisposableStack();
  const { path: dir } = made.use(await testDir());
  const chains = await Promise.all(
    ['disk0', 'disk1'].map(async (id) => {
      const chain = await makeChain(dir, { formats: ['raw'], sizeBytes: SIZE_BYTES, prefix: id });
      return { id, bus: id === 'disk0' ? 'virtio-blk' : 'virtio-scsi', chain } as const;
    }),
  );
  const qemu = made.use(await startQemu({ style: 'blockdev', disks: chains }));
  const held = made.move();
  return { dir, qemu, admin: qemu.admin, disks: chains, [Symbol.asyncDispose]: async () => await held.disposeAsync() };
}

async function fill(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(Buffer.alloc(SIZE_BYTES, 'data'), 0, SIZE_BYTES, 0);
}

async function msOf(work: Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work;
  return performance.now() - began;
}

describe('QEMU’s limits of a disk', { timeout: 60_000 }, () => {
  test.each(['disk0', 'disk1'])(
    '%s: set and taken away by the qdev of query-block, with a group as mark',
    async (id) => {
      await using vm = await started();
      const { admin } = vm;
      await limit(admin, id, { bps_wr: MIB, group: MARK });
      expect(await limitsOf(admin, id)).toMatchObject({ ...NO_LIMITS, bps_wr: MIB, group: MARK });
      // A second's worth may be written in advance; QEMU writes on if nobody else does.
      await admin.hmpQemuIo(id, 'write 0 1M');
      expect(await msOf(admin.hmpQemuIo(id, 'write 0 2M'))).toBeGreaterThan(500);
      await limit(admin, id, {});
      const without = await limitsOf(admin, id);
      expect(without).toMatchObject(NO_LIMITS);
      expect(without.group).toBeUndefined();
    },
  );

  test('a group of its own takes a disk out of the group that it was in, and its limits with it', async () => {
    await using vm = await started();
    const { admin } = vm;
    for (const id of ['disk0', 'disk1']) await limit(admin, id, { iops: 500, group: 'others' });
    await limit(admin, 'disk0', { bps_wr: MIB, group: MARK });
    expect(await limitsOf(admin, 'disk0')).toMatchObject({ ...NO_LIMITS, bps_wr: MIB, group: MARK });
    expect(await limitsOf(admin, 'disk1')).toMatchObject({ iops: 500, group: 'others' });
    // The limits are those of the group: a disk that comes back sets them for all its disks.
    await limit(admin, 'disk0', { iops: 100, group: 'others' });
    expect(await limitsOf(admin, 'disk1')).toMatchObject({ iops: 100, group: 'others' });
  });

  test('a limit that another client sets without a group stays in the group', async () => {
    await using vm = await started();
    await limit(vm.admin, 'disk0', { bps_wr: MIB, group: MARK });
    await limit(vm.admin, 'disk0', { iops: 300 });
    expect(await limitsOf(vm.admin, 'disk0')).toMatchObject({ bps_wr: 0, iops: 300, group: MARK });
  });

  test('it survives a pivot, and is taken away afterwards by the same qdev', async () => {
    await using vm = await started();
    const { admin } = vm;
    const file = join(vm.dir, 'copy.raw');
    await using made = await open(file, 'wx');
    await made.truncate(SIZE_BYTES);
    await admin.execute('blockdev-add', { driver: 'file', 'node-name': 'target', filename: file });
    const { inserted, qdev } = await admin.block('disk0');
    const device = inserted?.['node-name'];
    await admin.execute('blockdev-mirror', { 'job-id': 'm', device, target: 'target', sync: 'full' });
    await limit(admin, 'disk0', { bps_wr: MIB, group: MARK });
    await expect.poll(() => admin.events.some(({ event }) => event === 'BLOCK_JOB_READY')).toBe(true);
    await admin.execute('block-job-complete', { device: 'm' });
    await expect.poll(() => admin.events.some(({ event }) => event === 'BLOCK_JOB_COMPLETED')).toBe(true);
    const after = await admin.block('disk0');
    expect(after).toMatchObject({ qdev, inserted: { 'node-name': 'target', bps_wr: MIB, group: MARK } });
    await limit(admin, 'disk0', {});
    expect(await limitsOf(admin, 'disk0')).toMatchObject(NO_LIMITS);
  });

  test('to take it away waits for a mirror’s data in flight; to set another value does not', async () => {
    await using vm = await started();
    const { admin } = vm;
    await fill(vm.disks[0]?.chain[0]?.path ?? '');
    await using server = await NbdServer.start({ folder: vm.dir, sizeBytes: SIZE_BYTES, over: 'unix' });
    const address = { type: 'unix', path: server.server.value };
    const target = { driver: 'nbd', 'node-name': 'target', server: address, export: 'disk0' };
    await admin.execute('blockdev-add', target);
    await server.hang();
    const device = (await admin.block('disk0')).inserted?.['node-name'];
    await admin.execute('blockdev-mirror', { 'job-id': 'm', device, target: 'target', sync: 'full' });
    await expect.poll(async () => (await admin.execute<{ status: string }[]>('query-jobs'))[0]?.status).toBe('running');
    expect(await msOf(limit(admin, 'disk0', { bps_wr: MIB, group: MARK }))).toBeLessThan(1000);
    expect(await msOf(limit(admin, 'disk0', { bps_wr: MOST, group: MARK }))).toBeLessThan(1000);
    expect(await msOf(admin.hmpQemuIo('disk0', 'write 0 8M'))).toBeLessThan(1000);
    let isTaken = false;
    const taken = limit(admin, 'disk0', {}).then(() => {
      isTaken = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(isTaken).toBe(false);
    server.goOn();
    await taken;
    expect(await limitsOf(admin, 'disk0')).toMatchObject(NO_LIMITS);
  });
});
