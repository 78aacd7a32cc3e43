// oxlint-disable vitest/expect-expect
/** Events of the process of a job's QEMU: it stands still, its socket goes, another process has its name. */
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DestinationContent, Job_State, OnReady, PauseGuest } from '../../generated/blockjob/v1/job.ts';
import { eventually, expectClean, graphOf, monitorIn } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { type MetCopy, metCopy, SOON_MS } from '../support/real-qemu/met-copy.ts';
import { makeChain, startQemu, within } from '../support/real-qemu/qemu.ts';
import { whileStopped } from '../support/real-qemu/while-stopped.ts';
import { byId, refusalOf, refused } from '../support/service/caller.ts';

const { DESTINATION_CONTENT_COMPLETE, DESTINATION_CONTENT_UNKNOWN } = DestinationContent;

let site: Site;

/** The copy becomes READY, the guest writes, and a pivot moves it to the copy. */
async function expectGoesOn(it: MetCopy): Promise<void> {
  const { machine, job, path } = it;
  const { service } = site;
  await service.setSpeed(job.id, 0n);
  await it.until('STATE_READY');
  await machine.guest.write(2);
  const ended = await service.abort({ job: byId(job.id), pivot: true });
  expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
  expectClean(await graphOf(machine.qemu.admin), job.id, [job.id, `${job.id}-file`]);
  expect(await service.listLeftovers(machine.disk.domain)).toEqual([]);
  await machine.qemu[Symbol.asyncDispose]();
  await machine.guest.expectIn(path, 'qcow2');
}

describe.skipIf(needs('qemu'))('the QEMU of a copy', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test.each(['RUNNING', 'READY'] as const)('stops while the copy is %s, and nothing happens', async (at) => {
    await using it = await metCopy(site, at);
    const before = await site.service.getInfo(it.job.id);
    await whileStopped(it.machine.qemu.pid, async () => {
      const meanwhile = await site.service.getInfo(it.job.id);
      expect(meanwhile).toMatchObject({ state: before.state, revision: before.revision, outcome: before.outcome });
    });
    await expectGoesOn(it);
  });

  test.each([
    ['RUNNING', false, 'CANCELLED', 'PARTIAL'],
    ['READY', false, 'CANCELLED', 'COMPLETE'],
    ['READY', true, 'COMPLETED', 'COMPLETE'],
  ] as const)(
    'stands still while the copy is %s, which is ended meanwhile, pivot %s',
    async (at, pivot, state, content) => {
      await using it = await metCopy(site, at);
      const { machine, job, path } = it;
      await whileStopped(machine.qemu.pid, async () => {
        const ending = await site.service.abort({ job: byId(job.id), pivot, returnImmediately: true });
        expect(ending.state).toBe(pivot ? Job_State.STATE_PIVOTING : Job_State.STATE_CANCELLING);
        // Nobody knows what QEMU has done with it.
        expect(ending.outcome?.guestWritesTo).toBe(pivot ? '' : machine.top.path);
      });
      expect(await it.ended()).toMatchObject({
        state: Job_State[`STATE_${state}`],
        outcome: {
          guestWritesTo: pivot ? path : machine.top.path,
          destinationContent: DestinationContent[`DESTINATION_CONTENT_${content}`],
        },
      });
      expect(await site.service.listLeftovers(machine.disk.domain)).toEqual([]);
    },
  );

  test('is paused for a pivot and another client resumes it: it pivots nevertheless, and runs at the end', async () => {
    await using it = await metCopy(site, 'READY', { sizeBytes: 32 * MIB });
    const { machine, job } = it;
    const { admin } = machine.qemu;
    await admin.hmpQemuIo('disk0', `write -P 7 0 ${32 * MIB}`);
    await site.service.abort({
      job: byId(job.id),
      pivot: true,
      returnImmediately: true,
      pauseGuest: PauseGuest.PAUSE_GUEST_ALWAYS,
    });
    await eventually('the guest is paused', () => admin.events.find(({ event }) => event === 'STOP'));
    await it.execute(['cont', {}]);
    expect(await it.ended()).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: it.path } });
    expect(await admin.execute('query-status')).toMatchObject({ status: 'running' });
  });

  test('is paused by another client: it stays paused after a pivot', async () => {
    await using it = await metCopy(site, 'READY');
    const { machine, job } = it;
    await it.execute(['stop', {}]);
    const pauseGuest = PauseGuest.PAUSE_GUEST_ALWAYS;
    const ended = await site.service.abort({ job: byId(job.id), pivot: true, pauseGuest });
    expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: it.path } });
    expect(await machine.qemu.admin.execute('query-status')).toMatchObject({ status: 'paused' });
  });

  test.each(['RUNNING', 'READY'] as const)(
    'loses the name of its socket while the copy is %s: the copy continues',
    async (at) => {
      await using it = await metCopy(site, at);
      const { disk, dir } = it.machine;
      const socket = join(site.sockets, `${disk.domain}.sock`);
      await rename(socket, join(dir, 'away.sock'));
      // The regular look has been at the folder, too.
      const other = await site.machine({ pattern: false });
      await other[Symbol.asyncDispose]();
      await expectGoesOn(it);
    },
  );

  test('has no socket when the service comes back: the copy waits, and ends as requested once there is one', async () => {
    await using it = await metCopy(site, 'READY');
    const { machine, job, path } = it;
    const { domain } = machine.disk;
    const socket = join(site.sockets, `${domain}.sock`);
    const away = join(machine.dir, 'away.sock');
    await site.restart('SIGKILL', undefined, async () => await rename(socket, away));
    const { service } = site;
    expect(await refused(service.getDomain(domain))).toMatchObject({ reason: 'DOMAIN_NOT_FOUND' });
    expect(await service.getInfo(job.id)).toMatchObject({
      state: Job_State.STATE_READY,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_MIRRORED, safeToDelete: [] },
    });
    const pivoting = await service.abort({ job: byId(job.id), pivot: true, returnImmediately: true });
    expect(pivoting.state).toBe(Job_State.STATE_PIVOTING);
    await machine.guest.write(2);
    await rename(away, socket);
    expect(await it.ended()).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
    await machine.qemu[Symbol.asyncDispose]();
    await machine.guest.expectIn(path, 'qcow2');
  });

  test('has a namesake, as while a guest migrates: the copy continues', async () => {
    await using it = await metCopy(site, 'RUNNING', { onReady: OnReady.ON_READY_PIVOT });
    const { machine, job, path } = it;
    const { name, uuid } = machine.qemu;
    await using _namesake = await startQemu({
      style: 'blockdev',
      name,
      uuid,
      disks: [],
      extraArgs: monitorIn(site.sockets, 'namesake'),
    });
    await eventually('two have the name', async () => {
      const refusal = await site.service.getDomain(name).then(() => undefined, refusalOf);
      return refusal?.reason === 'FIELD_INVALID' ? true : undefined;
    });
    await site.service.setSpeed(job.id, 0n);
    expect(await it.ended()).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      progress: { percent: 100 },
      outcome: { guestWritesTo: path, destinationContent: DESTINATION_CONTENT_COMPLETE },
    });
  });

  test('lives on when another QEMU has its name and its socket: neither has the job of the other', async () => {
    await using it = await metCopy(site, 'READY');
    const { machine, job, path } = it;
    const { disk, dir, qemu } = machine;
    const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: 1 << 20, prefix: 'next' });
    await using next = await startQemu({
      style: 'blockdev',
      name: qemu.name,
      uuid: qemu.uuid,
      disks: [{ id: 'disk0', bus: 'virtio-blk', chain }],
      extraArgs: monitorIn(site.sockets, disk.domain),
    });
    await site.restart('SIGTERM', disk.domain);
    const { service } = site;
    const domain = await service.getDomain(disk.domain);
    expect(domain.qemuPid).toBe(next.pid);
    expect(domain.disks[0]?.job).toBeUndefined();
    const target = { $case: 'file', value: join(dir, 'copy of the next') } as const;
    const another = await service.startCopy({ disk, destination: { target } });
    await within(SOON_MS, 'READY', service.until(another.id, 'STATE_READY'));
    expect(await service.abort({ job: { name: { $case: 'disk', value: disk } }, pivot: true })).toMatchObject({
      id: another.id,
      state: Job_State.STATE_COMPLETED,
    });
    // The first one cannot be asked, and it still exists.
    expect(await service.getInfo(job.id)).toMatchObject({ state: Job_State.STATE_READY, endTime: undefined });
    process.kill(qemu.pid, 'SIGKILL');
    expect(await it.ended()).toMatchObject({
      state: Job_State.STATE_FAILED,
      error: { message: expect.stringContaining('the QEMU process has ended') as string },
      outcome: { guestWritesTo: '', destinationContent: DESTINATION_CONTENT_UNKNOWN, safeToDelete: [] },
    });
    expect(await service.listLeftovers(disk.domain)).toMatchObject([{ id: `file:${job.id}`, name: path }]);
  });
});
