/**
 * Pivots that find no moment without dirty data: QEMU lets the requests that wait for the guest's limit go in each
 * attempt, and then has more to copy. A QEMU that completes such a copy inside the flush of a `stop` aborts.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Job_State, JobEvent_Kind, OnReady, PauseGuest } from '../../generated/blockjob/v1/job.ts';
import { LOOPBACK, slowExport } from '../support/images/slow-export.ts';
import { needs } from '../support/means.ts';
import { MIB } from '../support/real-qemu/bench-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { Rig } from '../support/real-qemu/rig.ts';

const SIZE_MIB = 12;
/** The guest's limit, far below the speed of the link: a copy follows the guest, and the last request never ends. */
const GUEST_BYTES = 200_000;
const ROUNDS = 3;

let rig: Rig;
/** Whether QEMU can break a connection that hangs. */
let hasYank = false;
/** The servers that the guest may be on. */
const places = new AsyncDisposableStack();

/** Another client's limit for a disk, as most platforms set one. */
async function limit(disk: number, bytesPerSecond: number): Promise<void> {
  const { qdev } = await rig.admin.block(rig.vm.deviceId(disk));
  const none = { bps: 0, bps_rd: 0, iops: 0, iops_rd: 0, iops_wr: 0 };
  await rig.admin.execute('block_set_io_throttle', { id: qdev, ...none, bps_wr: bytesPerSecond });
}

/** A copy of the first disk over a slow link, of which QEMU is asked for the pivot. */
async function endlessCopy(pauseGuest: PauseGuest) {
  const { path } = places.use(await testDir('bj-slow-'));
  const { destination, file } = places.use(await slowExport(path, SIZE_MIB * MIB, MIB));
  const disk = { domain: 'web1', disk: rig.vm.deviceId(1) };
  const onReady = OnReady.ON_READY_PIVOT;
  const { id } = await rig.service.startCopy({ disk, destination, onReady, pauseGuest });
  await rig.service.until(id, 'STATE_PIVOTING');
  return { id, file };
}

/** Everything that the guest has written is in the image. */
async function expectWhole(disk: number, path: string): Promise<void> {
  await rig.vm.pause();
  const checked = await rig.vm.check(disk, { image: path, format: 'raw', live: true });
  expect(checked).toMatchObject({ ok: true, lost: 0, guest_errors: 0, guest_bad_reads: 0, text: '' });
  await rig.vm.resume();
}

describe.skipIf(needs('guest'))('a pivot of a guest that always has writes to come', { timeout: 300_000 }, () => {
  beforeAll(async () => {
    rig = await Rig.start({
      disks: [`id=1,fmt=raw,size=${SIZE_MIB}M`, 'id=2,fmt=raw,size=16M'],
      append: 'gw.mode=rand gw.bs=64 gw.batch=32 gw.rate=8',
      args: ['--allow-destination', LOOPBACK],
    });
    await limit(1, GUEST_BYTES);
    const commands = await rig.admin.execute<{ name: string }[]>('query-commands');
    hasYank = commands.some(({ name }) => name === 'yank');
  }, 180_000);
  afterAll(async () => {
    await rig?.[Symbol.asyncDispose]();
    await places.disposeAsync();
  });

  test('ends, because the guest is paused for a moment, and its QEMU lives', async ({ skip }) => {
    skip(!hasYank, 'a pause has no bound there, and is not begun');
    const { id, file } = await endlessCopy(PauseGuest.PAUSE_GUEST_AUTO);
    const told: string[] = [];
    for await (const { kind, detail } of rig.service.watch(id))
      if (kind === JobEvent_Kind.KIND_STATE) told.push(detail);
    expect((await rig.service.getInfo(id)).state).toBe(Job_State.STATE_COMPLETED);
    expect(told.join()).toContain('the guest writes faster than the copy can follow');
    await expectWhole(1, file);
  });

  test(`does not harm the guest while another disk pivots with a pause, ${ROUNDS} times`, async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const { id, file } = await endlessCopy(PauseGuest.PAUSE_GUEST_NEVER);
      const to = rig.image(`two-${round}`, 'raw');
      const beside = await rig.copy(2, to, { onReady: OnReady.ON_READY_PIVOT, pause: 'ALWAYS' });
      await rig.service.until(beside, 'STATE_COMPLETED');
      // The pause lets this one end as well.
      await rig.service.until(id, 'STATE_COMPLETED');
      expect((await rig.service.getInfo(id)).state).toBe(Job_State.STATE_COMPLETED);
      await expectWhole(1, file);
      await expectWhole(2, to.path);
    }
  });
});
