/**
 * A newer job changes the answers of an older one: the files that are safe to delete, also while the VM is off and
 * nobody has them open, and the image of the guest. The events of the older job's entries never change.
 */
import { existsSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DestinationContent, type Job, type JobEvent, JobEvent_Kind } from '../../generated/blockjob/v1/job.ts';
import { monitorIn, present } from '../support/checks.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { run, type Style, startQemu } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';

let site: Site;

async function ready(
  { disk }: Pick<Machine, 'disk'>,
  path: string,
  more: { reuseExternal?: true } = {},
): Promise<string> {
  const target = { $case: 'file', value: path } as const;
  const request = { disk, destination: { target }, requestId: `to${path}`, ...more };
  const { id } = await site.service.startCopy(request);
  await site.service.until(id, 'STATE_READY');
  return id;
}

async function pivoted(
  machine: Pick<Machine, 'disk'>,
  path: string,
  more: { reuseExternal?: true } = {},
): Promise<Job> {
  return await site.service.abort({ job: byId(await ready(machine, path, more)), pivot: true });
}

async function quit({ qemu }: Pick<Machine, 'qemu'>): Promise<void> {
  await qemu.admin.execute('quit').catch(() => undefined);
  await qemu.exited;
}

async function eventsOf(job: string, afterRevision?: number): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  // Progress is a latest value, without history.
  for await (const event of site.service.watch(job, afterRevision)) {
    events.push({ ...event, job: { ...present(event.job), progress: undefined } });
  }
  return events;
}

const named = ({ outcome }: Job) => present(outcome).safeToDelete.map(({ path }) => path);

/** In each answer that shows the present job. */
async function shown({ id, requestId, disk, destination, options }: Job): Promise<readonly Job[]> {
  const listed = (await site.service.listJobs({ pageSize: 500 })).jobs.find((job) => job.id === id);
  const again = await site.service.startCopy({
    disk: present(disk),
    destination: { target: present(present(destination).target) },
    reuseExternal: present(options).reuseExternal,
    requestId,
  });
  const [snapshot] = await eventsOf(id);
  expect(snapshot?.kind).toBe(JobEvent_Kind.KIND_SNAPSHOT);
  return [await site.service.getInfo(id), present(listed), again, present(snapshot?.job)];
}

beforeAll(async () => {
  site = await Site.open();
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
});

/** There and back: the guest is on the image that the first job calls safe to delete. */
async function thereAndBack(machine: Machine) {
  const [here, there] = [machine.top.path, join(machine.dir, 'there')];
  const first = await pivoted(machine, there);
  expect([named(first), first.outcome?.guestChangedByJobId]).toEqual([[here], '']);
  const told = await eventsOf(first.id, 0);
  const second = await pivoted(machine, here, { reuseExternal: true });
  expect(named(second)).toEqual([there]);

  const expectShown = async () => {
    for (const { outcome } of await shown(first)) {
      expect(outcome).toMatchObject({
        safeToDelete: [],
        guestWritesTo: there,
        nextStartPath: there,
        guestAsOf: first.outcome?.guestAsOf,
        guestChangedByJobId: second.id,
        destinationChangedByJobId: second.id,
      });
    }
    for (const { outcome } of await shown(second)) {
      expect(outcome).toMatchObject({ safeToDelete: [{ path: there }], guestWritesTo: here });
      expect([outcome?.guestChangedByJobId, outcome?.destinationChangedByJobId]).toEqual(['', '']);
    }
  };
  return { first, told, expectShown };
}

test.each(['blockdev', 'drive'] as const)(
  'a copy there and back: the older job names no live disk, and names the job that knows the place of the guest; style %s',
  async (style: Style) => {
    await using machine = await site.machine({ style });
    const { first, expectShown } = await thereAndBack(machine);
    await expectShown();
    await quit(machine);
    await expectShown();
    expect(named(await site.service.getInfo(first.id))).toEqual([]);
  },
);

test('the same after a restart; the events of its entries have not changed', async () => {
  await using machine = await site.machine();
  const { first, told, expectShown } = await thereAndBack(machine);
  await quit(machine);
  await site.restart('SIGTERM', undefined);
  await expectShown();
  const events = await eventsOf(first.id, 0);
  expect(events).toEqual(told);
  const end = present(events.at(-1));
  expect([named(present(end.job)), end.job?.outcome?.guestChangedByJobId]).toEqual([[machine.top.path], '']);
  expect(end.job?.outcome?.guestAsOf?.getTime()).toBeLessThanOrEqual(present(end.time).getTime());
  for (const { time, job } of events.slice(0, 3)) expect(job?.outcome?.guestAsOf).toEqual(time);
});

test('an image that was renamed over the old one: the VM is off, and the image is not named', async () => {
  await using machine = await site.machine();
  const there = join(machine.dir, 'there');
  const job = await pivoted(machine, there);
  await quit(machine);
  expect(named(await site.service.getInfo(job.id))).toEqual([machine.top.path]);
  await rename(there, machine.top.path);
  expect(named(await site.service.getInfo(job.id))).toEqual([]);
});

test('an image that was below the disk of a later job: neither VM runs, and the image is not named', async () => {
  await using machine = await site.machine();
  const job = await pivoted(machine, join(machine.dir, 'there'));
  const overlay = join(machine.dir, 'overlay.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', machine.top.path, '-F', 'qcow2', overlay]);
  const name = `over${machine.dir.slice(-6)}`;
  await using qemu = await startQemu({
    style: 'blockdev',
    name,
    disks: [{ id: 'disk0', bus: 'virtio-blk', chain: [...machine.chain, { path: overlay, format: 'qcow2' }] }],
    extraArgs: monitorIn(site.sockets, name),
  });
  await site.service.domainUp(name);
  const disk = { domain: name, disk: 'disk0' };
  const later = await ready({ disk }, join(machine.dir, 'of-overlay'));
  const ended = await site.service.abort({ job: byId(later) });
  expect(ended.outcome?.destinationContent).toBe(DestinationContent.DESTINATION_CONTENT_COMPLETE);
  for (const one of [{ qemu }, machine]) await quit(one);
  const { outcome } = await site.service.getInfo(job.id);
  // It is another VM: the place of the first one's guest has not changed.
  expect(outcome).toMatchObject({ safeToDelete: [], guestChangedByJobId: '', destinationChangedByJobId: '' });
});

test('a leftover that a later copy was made into: it is no longer listed, and not reclaimed', async () => {
  await using machine = await site.machine();
  const path = join(machine.dir, 'left');
  const stale = await ready(machine, path);
  await site.service.abort({ job: byId(stale), force: true });
  const mine = async () => (await site.service.listLeftovers()).filter(({ jobId }) => jobId === stale);
  expect(await mine()).toMatchObject([{ id: `file:${stale}`, name: path, blockedBy: '' }]);
  // A job that fails changes nothing of that.
  const vain = await site.service.startCopy({
    disk: machine.disk,
    destination: { target: { $case: 'file', value: path } },
    reuseExternal: true,
    bandwidthBytesPerSecond: 65_536n,
  });
  await site.service.abort({ job: byId(vain.id) });
  expect(await mine()).toMatchObject([{ id: `file:${stale}`, blockedBy: '' }]);

  const later = await site.service.startCopy({
    disk: machine.disk,
    destination: { target: { $case: 'file', value: path } },
    reuseExternal: true,
  });
  await site.service.until(later.id, 'STATE_READY');
  await site.service.abort({ job: byId(later.id), pivot: true });
  await quit(machine);
  expect(await mine()).toEqual([]);
  const [result] = await site.service.reclaim([`file:${stale}`], true);
  expect(result).toMatchObject({
    reclaimed: false,
    error: { message: expect.stringContaining(later.id) as string },
  });
  expect(existsSync(path)).toBe(true);
});
