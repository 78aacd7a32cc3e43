/** Two services on one QEMU, each with a state folder and a monitor of its own: neither touches a job of the other. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually, expectClean, expectWell, graphOf } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { type TestDir, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const SLOW = 65_536n;

interface Shared extends AsyncDisposable {
  readonly machine: Machine;
  /** Another service on the same QEMU, with its state in the folder. */
  readonly other: (folder: TestDir, args?: readonly string[]) => Promise<Service>;
}

async function shared(site: Site): Promise<Shared> {
  await using held = new AsyncDisposableStack();
  const { path } = held.use(await testDir('bj-qmp-'));
  const socket = join(path, 'other.sock');
  const chardev = `socket,id=other,path=${socket},server=on,wait=off`;
  const extraArgs = ['-chardev', chardev, '-mon', 'chardev=other,mode=control'];
  const machine = held.use(await site.machine({ extraArgs }));
  const { domain } = machine.disk;
  const kept = held.move();
  return {
    machine,
    other: async ({ path: dir }, args = []) => {
      const service = await Service.start({ dir, qmp: { [domain]: socket }, allow: ['/tmp'], args });
      await service.domainUp(domain);
      return service;
    },
    [Symbol.asyncDispose]: async () => await kept.disposeAsync(),
  };
}

/** The digits of the state folder in which it was begun. */
function digits({ id }: Job): string {
  return id.slice(2, 8);
}

type Begin = (service: Service, machine: Machine) => Promise<Job>;

const copy: Begin = async (service, { disk, dir }) =>
  await service.startCopy({
    disk,
    destination: { target: { $case: 'file', value: join(dir, 'copy') } },
    bandwidthBytesPerSecond: SLOW,
  });

const KINDS: readonly [what: string, begin: Begin, isReady: boolean][] = [
  ['a copy', copy, true],
  ['a pull', async (service, { disk }) => await service.rebase({ disk, flags: [64], bandwidth: SLOW }), false],
  [
    'a commit of lower images',
    async (service, { disk }) =>
      await service.commit({
        disk,
        top: 'disk0[1]',
        flags: [CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES],
        bandwidth: SLOW,
      }),
    false,
  ],
  [
    'an active commit',
    async (service, { disk }) =>
      await service.commit({
        disk,
        flags: [CommitFlag.COMMIT_FLAG_ACTIVE, CommitFlag.COMMIT_FLAG_BANDWIDTH_BYTES],
        bandwidth: SLOW,
      }),
    true,
  ],
];

/** It does not know such a job, has nothing to clean up, and starts nothing on its disk. */
async function expectLeftAlone(service: Service, { disk }: Machine, job: string): Promise<void> {
  expect((await service.listJobs({ domain: disk.domain })).jobs).toEqual([]);
  expect(await service.listLeftovers()).toEqual([]);
  expect(await refused(service.abort({ job: byId(job), force: true }))).toMatchObject({ reason: 'JOB_NOT_FOUND' });
  for (const id of [`job:${job}`, `node:${job}`]) await service.reclaim([id], true);
}

describe.skipIf(needs('qemu'))('of two services on one QEMU', () => {
  test.each(KINDS)(
    'one service leaves %s of the other one alone, which ends as usual',
    async (_what, begin, isReady) => {
      await using site = await Site.open();
      await using it = await shared(site);
      await using folder = await testDir();
      const { machine } = it;
      const job = await begin(site.service, machine);
      await using other = await it.other(folder);
      await expectLeftAlone(other, machine, job.id);
      const target = { $case: 'file', value: join(machine.dir, 'mine') } as const;
      expect(await refused(other.startCopy({ disk: machine.disk, destination: { target } }))).toMatchObject({
        reason: expect.stringMatching(/^BLOCK_(?:COPY|JOB)_ACTIVE$/) as string,
        metadata: { job: job.id },
      });
      await site.service.setSpeed(job.id, 0n);
      if (isReady) {
        await site.service.until(job.id, 'STATE_READY');
        await expectLeftAlone(other, machine, job.id);
        await site.service.abort({ job: byId(job.id), pivot: true });
      }
      expect(await site.ended(job)).toMatchObject({ state: Job_State.STATE_COMPLETED });
      // The other one's turn.
      const second = await copy(other, { ...machine, dir: folder.path });
      await other.abort({ job: byId(second.id) });
      expectWell(other);
    },
  );

  test('one service leaves alone changes while the other one is down, and that one finds them', async () => {
    await using site = await Site.open();
    await using it = await shared(site);
    await using folder = await testDir();
    await using other = await it.other(folder);
    const { machine } = it;
    const { admin } = machine.qemu;
    const job = await copy(site.service, machine);
    await site.service.setSpeed(job.id, 0n);
    await site.service.until(job.id, 'STATE_READY');
    await site.restart('SIGKILL', machine.disk.domain, async () => {
      await expectLeftAlone(other, machine, job.id);
      await admin.execute('job-complete', { id: job.id });
      await eventually('it has concluded', async () =>
        (await admin.execute<{ status: string }[]>('query-jobs')).some(({ status }) => status === 'concluded')
          ? true
          : undefined,
      );
      await expectLeftAlone(other, machine, job.id);
    });
    expect(await site.ended(job)).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      outcome: { guestWritesTo: join(machine.dir, 'copy') },
    });
    expectClean(await graphOf(admin), job.id, [job.id, `${job.id}-file`]);
    expectWell(other);
  });

  test('one service has lost its folder for good: the other one takes up its jobs on request', async () => {
    await using site = await Site.open();
    await using it = await shared(site);
    await using folder = await testDir();
    const { machine } = it;
    const job = await copy(site.service, machine);
    await site.restart('SIGKILL', undefined, async () => await rm(site.stateFolder, { recursive: true }));
    expect((await site.service.listJobs()).jobs).toEqual([]);
    {
      await using before = await it.other(folder);
      await expectLeftAlone(before, machine, job.id);
    }
    await using other = await it.other(folder, ['--adopt-jobs-of', digits(job)]);
    expect((await other.listJobs()).jobs).toMatchObject([{ id: job.id, state: Job_State.STATE_RUNNING }]);
    await other.setSpeed(job.id, 0n);
    await other.until(job.id, 'STATE_READY');
    const ended = await other.abort({ job: byId(job.id), pivot: true });
    expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED });
    const [one, two] = [await copy(other, { ...machine, dir: folder.path }), job];
    expect(digits(one)).not.toBe(digits(two));
    await other.abort({ job: byId(one.id) });
    expectWell(other);
  });
});
