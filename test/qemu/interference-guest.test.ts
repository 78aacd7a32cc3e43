/**
 * A guest that is reset, shuts down or panics in the middle of a copy. It writes all the time, and each block is
 * checked.
 */
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { GuestState } from '../../generated/blockjob/v1/domain_service.ts';
import { DestinationContent, Job_State, PauseGuest } from '../../generated/blockjob/v1/job.ts';
import { eventually, expectWell, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { GuestVm } from '../support/real-qemu/guest-vm.ts';
import { SOON_MS } from '../support/real-qemu/met-copy.ts';
import { Admin, testDir, within } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const WRITES = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.rd=10 gw.rate=5';
const SLOW = 65_536n;
const PANIC = ['-device', 'pvpanic-pci'];

/** A copy of a busy disk that is RUNNING. */
async function busyCopy(extraArgs: readonly string[] = []) {
  await using open = new AsyncDisposableStack();
  const { path: folder } = open.use(await testDir('bj-guest-'));
  const vm = open.use(
    await GuestVm.start({ disks: ['id=1,chain=2,size=16M'], append: WRITES, name: 'web1', extraArgs }),
  );
  const service = open.use(await Service.start({ dir: folder, qmp: { web1: vm.qmpPath }, allow: [folder] }));
  await service.domainUp('web1');
  const path = join(folder, 'copy');
  const { id } = await service.startCopy({
    disk: { domain: 'web1', disk: vm.deviceId(1) },
    destination: { target: { $case: 'file', value: path } },
    bandwidthBytesPerSecond: SLOW,
  });
  await vm.work(1, 32);
  const held = open.move();
  return {
    vm,
    service,
    id,
    path,
    ready: async () => {
      await service.setSpeed(id, 0n);
      await service.until(id, 'STATE_READY');
      await vm.work(1, 32);
    },
    pivot: async () => await service.abort({ job: byId(id), pivot: true, pauseGuest: PauseGuest.PAUSE_GUEST_ALWAYS }),
    [Symbol.asyncDispose]: async () => await held.disposeAsync(),
  };
}

describe.skipIf(needs('qemu', 'guest'))('a guest whose disk is copied', () => {
  test('is reset from outside and boots again by itself, RUNNING and READY: the copy continues, and is correct', async () => {
    await using it = await busyCopy();
    const { vm, service, path } = it;
    const admin = await Admin.connect(connect(vm.checkerQmpPath), () => '');
    await using _ = { [Symbol.asyncDispose]: async () => admin.close() };
    const boots = () => vm.log().filter((line) => line.startsWith('B ')).length;
    const again = async (how: () => Promise<unknown>) => {
      const before = boots();
      await how();
      await eventually('it boots', () => (boots() > before ? true : undefined), 60_000);
      await vm.work(1, 32);
    };
    await again(async () => await admin.execute('system_reset'));
    expect((await service.getInfo(it.id)).state).toBe(Job_State.STATE_RUNNING);
    await it.ready();
    await again(async () => await admin.execute('system_reset'));
    await again(async () => await vm.command('reboot'));
    expect((await service.getInfo(it.id)).state).toBe(Job_State.STATE_READY);
    // While it boots.
    await admin.execute('system_reset');
    expect(await it.pivot()).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
    await vm.work(1, 32);
    await vm.pause();
    await vm.stop();
    expect(await vm.check(1, { image: path, format: 'qcow2' })).toMatchObject({ ok: true });
    expectWell(service);
  });

  test.each([
    ['shuts down', 'poweroff', []],
    ['panics', 'panic', PANIC],
  ] as const)('%s, and its QEMU ends: the copy is FAILED, the source is correct', async (_what, command, args) => {
    await using it = await busyCopy(args);
    const { vm, service, path } = it;
    await it.ready();
    await vm.command(command);
    await within(60_000, 'the end of QEMU', vm.exited);
    const ended = await within(SOON_MS, 'the end of the job', service.until(it.id, 'STATE_FAILED'));
    const { error, outcome } = present(ended.job);
    expect(error?.message).toMatch(/the QEMU process has ended/);
    expect(outcome).toMatchObject({
      guestWritesTo: '',
      destinationContent: DestinationContent.DESTINATION_CONTENT_UNKNOWN,
      safeToDelete: [],
    });
    expect(await service.listLeftovers('web1')).toMatchObject([{ id: `file:${it.id}`, name: path }]);
    expect(await vm.check(1)).toMatchObject({ ok: true });
    expectWell(service);
  });

  test.each([
    ['shuts down', 'poweroff', ['-no-shutdown']],
    ['panics', 'panic', [...PANIC, '-action', 'panic=pause']],
  ] as const)('%s, and its QEMU stays: the copy continues and is pivoted', async (_what, command, args) => {
    await using it = await busyCopy(args);
    const { vm, service, path, id } = it;
    await vm.command(command);
    await eventually('the guest has ended', async () =>
      (await service.getDomain('web1')).guestState === GuestState.GUEST_STATE_SHUT_OFF ? true : undefined,
    );
    await service.setSpeed(id, 0n);
    await within(SOON_MS, 'READY', service.until(id, 'STATE_READY'));
    const ended = await it.pivot();
    expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
    expect(await service.listLeftovers('web1')).toEqual([]);
    await vm.stop();
    expect(await vm.check(1, { image: path, format: 'qcow2' })).toMatchObject({ ok: true });
    expectWell(service);
  });
});
