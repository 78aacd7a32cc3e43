/** The disk of a job is unplugged. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DestinationContent, type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually, expectClean, graphOf } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { type MetCopy, metCopy, SOON_MS, snapshotOf } from '../support/real-qemu/met-copy.ts';
import { within } from '../support/real-qemu/qemu.ts';
import { whileStopped } from '../support/real-qemu/while-stopped.ts';
import { byId } from '../support/service/caller.ts';

let site: Site;

/** QEMU releases a device some time after device_del. */
async function unplugged({ qemu: { admin } }: Machine): Promise<void> {
  await eventually('the disk is gone', () =>
    admin.events.some(({ event, data }) => event === 'DEVICE_DELETED' && data['device'] === 'disk0') ? true : undefined,
  );
}

/** A copy whose -drive is removed with its device, seen at the end. */
async function endedUnplugged(it: MetCopy): Promise<Job> {
  await whileStopped(site.service.pid, async () => {
    await it.execute(['device_del', { id: 'disk0' }]);
    await it.concluded();
    await unplugged(it.machine);
  });
  const ended = await it.ended();
  expect(ended).toMatchObject({
    state: Job_State.STATE_FAILED,
    error: { message: expect.stringContaining('unplugged') as string },
    outcome: { guestWritesTo: '', nextStartPath: '', safeToDelete: [] },
  });
  expectClean(await graphOf(it.machine.qemu.admin), ended.id);
  return ended;
}

describe.skipIf(needs('qemu'))('a disk', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test.each([
    // A pivot that nobody saw before the disk was gone looks the same as one that came after.
    ['RUNNING', true, 'UNRESOLVED'],
    ['READY', true, 'UNRESOLVED'],
    ['READY', false, 'FAILED'],
  ] as const)('is unplugged, -blockdev, %s: the copy goes on, and is ended, pivot %s: %s', async (at, pivot, state) => {
    await using it = await metCopy(site, at, { bus: 'virtio-scsi' });
    const { machine, job, path } = it;
    await it.execute(['device_del', { id: 'disk0' }]);
    await unplugged(machine);
    expect((await site.service.getDomain(machine.disk.domain)).disks).toEqual([]);
    await site.service.setSpeed(job.id, 0n);
    await it.until('STATE_READY');
    await site.service.abort({ job: byId(job.id), pivot, returnImmediately: true });
    const ended = await it.ended();
    expect(ended).toMatchObject({
      state: Job_State[`STATE_${state}`],
      error: { message: expect.stringContaining('unplugged') as string },
      outcome: {
        guestWritesTo: '',
        nextStartPath: '',
        destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
        safeToDelete: [],
      },
    });
    expect(ended.outcome?.evidence.at(-1)?.text).toBe('no device disk0 was found');
    expectClean(await graphOf(machine.qemu.admin), job.id);
    await machine.guest.expectIn(path, 'qcow2');
  });

  test('is unplugged with its -drive before READY: QEMU cancels the copy', async () => {
    await using it = await metCopy(site, 'RUNNING', { bus: 'virtio-scsi', style: 'drive' });
    const { machine, path } = it;
    const ended = await endedUnplugged(it);
    expect(ended.outcome?.destinationContent).toBe(DestinationContent.DESTINATION_CONTENT_PARTIAL);
    // Nobody can see that the guest never used it: it is listed, and not removed without a request.
    const file = { id: `file:${ended.id}`, name: path, blockedBy: '' };
    expect(await site.service.listLeftovers(machine.disk.domain)).toMatchObject([file]);
    expect(await site.service.reclaim([file.id], true)).toMatchObject([{ reclaimed: true }]);
  });

  test('is unplugged with its -drive after READY: QEMU finishes the copy', async () => {
    await using it = await metCopy(site, 'READY', { bus: 'virtio-scsi', style: 'drive' });
    const { machine, path } = it;
    const ended = await endedUnplugged(it);
    expect(ended.outcome).toMatchObject({
      destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
      asOf: expect.any(Date) as Date,
    });
    expect(await site.service.listLeftovers(machine.disk.domain)).toEqual([]);
    await machine.guest.expectIn(path, 'qcow2');
  });

  test.each(['gets a snapshot', 'is unplugged'])('%s when a pull is done: the pull is COMPLETED', async (what) => {
    await using machine = await site.machine({ bus: 'virtio-scsi' });
    const { qemu, disk, dir, top, guest } = machine;
    const { admin } = qemu;
    const job = await site.service.rebase({ disk, flags: [64], bandwidth: 65_536n });
    await guest.write(0);
    const until = async (jobs: readonly string[]) => {
      await eventually('the pull is so far', async () =>
        (await graphOf(admin)).jobs.join() === jobs.join() ? true : undefined,
      );
    };
    await whileStopped(site.service.pid, async () => {
      await admin.execute('block-job-set-speed', { device: job.id, speed: 0 });
      await until([`${job.id} stream pending`]);
      await admin.execute('job-finalize', { id: job.id });
      await until([]);
      const [command, args] =
        what === 'is unplugged' ? (['device_del', { id: 'disk0' }] as const) : snapshotOf('disk0-2', dir);
      await admin.execute(command, args);
      if (what === 'is unplugged') await unplugged(machine);
    });
    const ended = await within(SOON_MS, 'the end of the pull', site.ended(job));
    const guestWritesTo = what === 'is unplugged' ? '' : join(dir, 'snapshot');
    expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED, error: undefined, outcome: { guestWritesTo } });
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(top.path, 'qcow2');
  });
});
