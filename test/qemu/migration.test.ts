/**
 * A guest that migrates to another QEMU takes the images that the other QEMU opened at its start. A copy that is
 * pivoted here would be done as far as this QEMU knows, and lost for the guest.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag, StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, Job_State, OnReady } from '../../generated/blockjob/v1/job.ts';
import { eventually, graphOf } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { metCopy } from '../support/real-qemu/met-copy.ts';
import { startQemu } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

/** A migration of a guest of 32 MiB takes minutes. */
const CRAWLING = 4096;
const AT_ONCE = 1 << 30;

let site: Site;

interface Journey extends AsyncDisposable {
  until(status: string): Promise<void>;
  cancel(): Promise<void>;
}

/** Sends a machine's guest to a QEMU that is not the service's. */
async function migrate({ qemu, dir, chain }: Machine, bytesPerSecond: number): Promise<Journey> {
  const uri = `unix:${join(dir, 'migration.sock')}`;
  const target = await startQemu({
    style: 'blockdev',
    name: qemu.name,
    uuid: qemu.uuid,
    disks: [{ id: 'disk0', bus: 'virtio-blk', chain }],
    extraArgs: ['-incoming', uri],
  });
  const statusIs = async (wanted: string) => {
    const { status } = await qemu.admin.execute<{ status: string }>('query-migrate');
    return status === wanted ? true : undefined;
  };
  const until = async (status: string) => {
    await eventually(`the migration is ${status}`, async () => await statusIs(status));
  };
  await qemu.admin.execute('migrate-set-parameters', { 'max-bandwidth': bytesPerSecond });
  await qemu.admin.execute('migrate', { uri });
  return {
    until,
    cancel: async () => {
      await qemu.admin.execute('migrate_cancel');
      await until('cancelled');
    },
    [Symbol.asyncDispose]: async () => await target[Symbol.asyncDispose](),
  };
}

/** Tries every kind of start on the machine's disk: all are refused, and nothing new exists afterwards. */
async function statusesRefused({ qemu, disk, dir }: Machine): Promise<readonly (string | undefined)[]> {
  const { service } = site;
  const before = await graphOf(qemu.admin);
  const path = join(dir, 'copy.qcow2');
  const copy = { disk, destination: { target: { $case: 'file', value: path } } } as const;
  const starts = [
    async () => await service.startCopy(copy),
    async () => await service.planOf('startCopy', StartCopyRequest.fromPartial(copy)),
    async () => await service.rebase({ disk }),
    async () => await service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] }),
  ];
  const statuses: (string | undefined)[] = [];
  for (const start of starts) {
    const { code, reason, metadata } = await refused(start());
    expect([code, reason, metadata['domain']]).toEqual([9, 'GUEST_MIGRATING', disk.domain]);
    statuses.push(metadata['status']);
  }
  expect(existsSync(path)).toBe(false);
  expect(await graphOf(qemu.admin)).toEqual(before);
  return statuses;
}

const eachSaying = (status: string) => [status, status, status, status];

describe.skipIf(needs('qemu'))('a guest that migrates', () => {
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => await site[Symbol.asyncDispose]());

  test('gets no job during the migration, and one if it has stayed', async () => {
    await using machine = await site.machine();
    await using journey = await migrate(machine, CRAWLING);
    await journey.until('active');
    expect(await statusesRefused(machine)).toEqual(eachSaying('active'));
    await journey.cancel();
    const path = join(machine.dir, 'copy.qcow2');
    const { id } = await site.service.startCopy({
      disk: machine.disk,
      destination: { target: { $case: 'file', value: path } },
      onReady: OnReady.ON_READY_PIVOT,
    });
    await site.service.until(id, 'STATE_COMPLETED');
  });

  test('gets none at its former host', async () => {
    await using machine = await site.machine();
    await using journey = await migrate(machine, AT_ONCE);
    await journey.until('completed');
    expect(await statusesRefused(machine)).toEqual(eachSaying('postmigrate'));
  });

  test('gets none where it has not arrived', async () => {
    await using machine = await site.machine({ extraArgs: ['-incoming', 'defer'] });
    expect(await statusesRefused(machine)).toEqual(eachSaying('inmigrate'));
  });

  test('is not pivoted: the copy stays READY, and pivots when the guest has stayed', async () => {
    await using it = await metCopy(site, 'READY');
    const { machine, job, path } = it;
    const { service } = site;
    await using journey = await migrate(machine, CRAWLING);
    await journey.until('active');
    const refusal = await refused(service.abort({ job: byId(job.id), pivot: true }));
    expect(refusal).toMatchObject({ code: 9, reason: 'GUEST_MIGRATING', metadata: { status: 'active' } });
    expect((await service.getInfo(job.id)).state).toBe(Job_State.STATE_READY);
    await journey.cancel();
    expect(await service.abort({ job: byId(job.id), pivot: true })).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      outcome: {
        guestWritesTo: path,
        destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
      },
    });
  });

  test('leaves a copy behind that never was READY, which ends by force alone, and is removed', async () => {
    await using it = await metCopy(site, 'RUNNING', { onReady: OnReady.ON_READY_PIVOT });
    const { machine, job, path } = it;
    const { service } = site;
    await using journey = await migrate(machine, CRAWLING);
    await journey.until('active');
    await service.setSpeed(job.id, 0n);
    await eventually('QEMU says ready', async () =>
      (await graphOf(machine.qemu.admin)).jobs.includes(`${job.id} mirror ready`) ? true : undefined,
    );
    await machine.qemu.admin.execute('migrate-set-parameters', { 'max-bandwidth': AT_ONCE });
    await journey.until('completed');
    const refusal = await refused(service.abort({ job: byId(job.id), pivot: true }));
    expect(refusal).toMatchObject({ reason: 'GUEST_MIGRATING', metadata: { status: 'postmigrate' } });
    expect(await service.abort({ job: byId(job.id), force: true })).toMatchObject({
      state: Job_State.STATE_CANCELLED,
      outcome: { guestWritesTo: machine.top.path, destinationContent: DestinationContent.DESTINATION_CONTENT_PARTIAL },
    });
    expect(existsSync(path)).toBe(false);
  });

  test('is not pivoted by a copy that does so by itself, until it has stayed', async () => {
    await using it = await metCopy(site, 'RUNNING', { onReady: OnReady.ON_READY_PIVOT });
    const { machine, job, path } = it;
    const { service } = site;
    await using journey = await migrate(machine, CRAWLING);
    await journey.until('active');
    await service.setSpeed(job.id, 0n);
    const { id } = job;
    await eventually('QEMU says ready', async () =>
      (await graphOf(machine.qemu.admin)).jobs.includes(`${id} mirror ready`) ? true : undefined,
    );
    // Each event makes the service look again, and a later question is answered after that look.
    for (let look = 0; look < 10; look += 1) {
      await machine.qemu.admin.execute('system_reset');
      await service.getDomain(machine.disk.domain);
      expect((await graphOf(machine.qemu.admin)).jobs).toEqual([`${job.id} mirror ready`]);
    }
    await journey.cancel();
    expect(await it.ended()).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
  });
});
