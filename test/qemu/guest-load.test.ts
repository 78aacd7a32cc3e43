/**
 * No acknowledged block is lost, however a copy ends while a real guest writes as fast as it can. Each run is a copy of
 * a disk under load and its end. Then the guest's own log gives the expected contents of each block, and each is
 * checked.
 */
import { access } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { DestinationContent, type Job, Job_State, OnReady } from '../../generated/blockjob/v1/job.ts';
import { needs } from '../support/means.ts';
import { AckedByTime, momentOf } from '../support/real-qemu/moments.ts';
import { type ChainImage, qemuImgCheck, type Style } from '../support/real-qemu/qemu.ts';
import { expectRight, type Pause, Rig, topOf } from '../support/real-qemu/rig.ts';

const MIXED = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.mix=80:10:10 gw.rd=10';
const SEQUENTIAL = 'gw.mode=seq gw.bs=64 gw.rd=10';
const ERASING = 'gw.mode=rand gw.bs=64 gw.vary=1 gw.mix=50:25:25 gw.dbs=128 gw.rd=10';
const WRITES = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.rd=10 gw.batch=4';

/** The format; the caller of the pivot, which is the service at READY or a client's Abort; and pause_guest. */
type Copy = `${ChainImage['format']} ${'service' | 'caller'} ${Pause}`;
/** The copies are made one after the other, each from the earlier one. */
type Boot = readonly [style: Style, disk: string, load: string, streams: number, copies: readonly Copy[]];

/** No NEVER with NVMe: the caller takes the risk that QEMU crashes then, and QEMU 7.2 does. */
const BOOTS: readonly Boot[] = [
  ['blockdev', 'chain=3', MIXED, 1, ['qcow2 service AUTO', 'raw caller NEVER', 'qcow2 caller ALWAYS']],
  ['drive', 'chain=3', SEQUENTIAL, 1, ['raw caller AUTO', 'qcow2 service NEVER', 'raw service ALWAYS']],
  ['blockdev', 'bus=scsi,iothread=1', ERASING, 1, ['qcow2 caller NEVER', 'raw service AUTO', 'raw caller ALWAYS']],
  ['drive', 'bus=scsi,fmt=raw', MIXED, 4, ['raw service NEVER', 'qcow2 caller AUTO', 'qcow2 service ALWAYS']],
  ['blockdev', 'bus=nvme,fmt=raw', ERASING, 1, ['qcow2 caller AUTO', 'raw service AUTO', 'qcow2 service ALWAYS']],
  ['drive', 'bus=nvme,chain=2', SEQUENTIAL, 4, ['qcow2 service AUTO', 'raw caller ALWAYS', 'qcow2 caller AUTO']],
  ['blockdev', 'fmt=raw,iothread=1', ERASING, 4, ['raw caller NEVER', 'qcow2 service NEVER', 'raw service AUTO']],
];

function expectPivoted({ state, outcome }: Job, from: ChainImage, to: ChainImage): void {
  expect(state).toBe(Job_State.STATE_COMPLETED);
  expect(outcome).toMatchObject({
    guestWritesTo: to.path,
    destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
    asOf: undefined,
    safeToDelete: [{ path: from.path }],
  });
}

describe.skipIf(needs('guest'))('a guest that writes as fast as it can', { timeout: 300_000 }, () => {
  test.each(BOOTS)('loses nothing by pivots: %s %s %s, streams %i', async (style, disk, load, streams, copies) => {
    const append = `${load} gw.streams=${streams}`;
    await using rig = await Rig.start({ style, disks: [`id=1,size=32M,${disk}`], append });
    const { vm, service } = rig;
    let old = topOf(vm, 1);
    for (const [index, copy] of copies.entries()) {
      const [format, by, pause] = copy.split(' ') as [ChainImage['format'], string, Pause];
      const next = rig.image(`next${index}`, format);
      await vm.work(1, 64, { streams });
      const stops = rig.guestStops();
      const onReady = by === 'service' ? OnReady.ON_READY_PIVOT : OnReady.ON_READY_HOLD;
      const id = await rig.copy(1, next, { onReady, pause });
      if (by === 'caller') {
        await service.until(id, 'STATE_READY');
        await vm.work(1, 128, { streams });
        await rig.abort(id, pause);
      }
      await service.until(id, 'STATE_COMPLETED');
      expectPivoted(await service.getInfo(id), old, next);
      const paused = pause === 'ALWAYS' || (pause === 'AUTO' && disk.includes('nvme'));
      expect(rig.guestStops() - stops).toBe(paused ? 1 : 0);

      await vm.work(1, 128, { streams });
      await vm.pause();
      await expectRight(rig, 1, next);
      // Not `live`: QEMU has closed it.
      const left = await vm.check(1, { image: old.path, format: old.format });
      expect(left.lost).toBeGreaterThan(0);
      await vm.resume();
      old = next;
    }
    await vm.pause();
    await vm.stop();
    const { path: image, format } = old;
    expect(await vm.check(1, { image, format })).toMatchObject({ ok: true, lost: 0, text: '' });
    const sound = format === 'qcow2' ? await qemuImgCheck(image) : { ok: true };
    expect(sound).toMatchObject({ ok: true });
  });

  test.each([
    { by: 'Abort', format: 'qcow2', onReady: OnReady.ON_READY_HOLD, end: 'STATE_CANCELLED' },
    { by: 'FINISH', format: 'raw', onReady: OnReady.ON_READY_FINISH, end: 'STATE_COMPLETED' },
  ] as const)('a copy ended by $by is the disk at one moment, no earlier than as_of', async (how) => {
    await using rig = await Rig.start({ disks: ['id=1,size=32M,chain=2'], append: WRITES });
    const { vm, service } = rig;
    const source = topOf(vm, 1);
    const next = rig.image('next', how.format);
    await vm.work(1, 64);
    using acked = new AckedByTime(vm, 1);
    const id = await rig.copy(1, next, { onReady: how.onReady });
    if (how.by === 'Abort') {
      await service.until(id, 'STATE_READY');
      await vm.work(1, 128);
      await rig.abort(id);
    }
    await service.until(id, how.end);
    const to = vm.acknowledged(1);
    const { state, outcome } = await service.getInfo(id);
    expect(state).toBe(Job_State[how.end]);
    expect(outcome).toMatchObject({
      guestWritesTo: source.path,
      destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
      asOf: expect.any(Date),
      destinationRemoved: false,
      safeToDelete: [],
    });
    await vm.work(1, 128);
    await vm.pause();
    await expectRight(rig, 1, source);
    const from = acked.at(outcome?.asOf ?? new Date(0));
    await expect(momentOf(vm, 1, next, { from, to })).resolves.toBeGreaterThan(from);
    // The end of the copy fixes the point in time: a later one is refused.
    await expect(momentOf(vm, 1, next, { from: to + 64, to: to + 96 })).rejects.toThrow('matches no point in time');
  });

  test('a copy that is cancelled before READY leaves nothing, and the disk as it was', async () => {
    await using rig = await Rig.start({ disks: ['id=1,size=32M,chain=2'], style: 'drive', append: MIXED });
    const { vm, service } = rig;
    const source = topOf(vm, 1);
    const next = rig.image('next', 'qcow2');
    const id = await rig.copy(1, next, { limit: 2n << 20n });
    for await (const { job } of service.watch(id)) {
      if ((job?.progress?.currentBytes ?? 0n) > 0n) break;
    }
    await access(next.path);
    await rig.abort(id);
    const { state, outcome } = await service.getInfo(id);
    expect(state).toBe(Job_State.STATE_CANCELLED);
    expect(outcome).toMatchObject({
      guestWritesTo: source.path,
      destinationContent: DestinationContent.DESTINATION_CONTENT_PARTIAL,
      destinationRemoved: true,
      safeToDelete: [],
    });
    await expect(access(next.path)).rejects.toThrow('ENOENT');
    await vm.work(1, 128);
    await vm.pause();
    await expectRight(rig, 1, source);
  });

  test('two disks of one VM are copied, and pivoted, at once', async () => {
    const disks = ['id=1,size=32M,chain=2', 'id=2,size=24M,fmt=raw,bus=scsi'];
    await using rig = await Rig.start({ disks, append: MIXED });
    const { vm, service } = rig;
    const next = [1, 2].map((disk) => rig.image(`next${disk}`, 'qcow2'));
    const ids = await Promise.all(next.map(async (image, index) => await rig.copy(index + 1, image)));
    await Promise.all(ids.map(async (id) => await service.until(id, 'STATE_READY')));
    await vm.work(2, 64);
    await Promise.all(ids.map(async (id) => await rig.abort(id, 'AUTO')));
    await Promise.all([vm.work(1, 128), vm.work(2, 128)]);
    await vm.pause();
    for (const [index, image] of next.entries()) {
      const disk = index + 1;
      expectPivoted(await service.getInfo(ids[index] ?? ''), topOf(vm, disk), image);
      await expectRight(rig, disk, image);
      expect((await vm.check(disk)).lost).toBeGreaterThan(0);
    }
  });
});
