/** Jobs that another client of a QEMU has begun: they are shown, and only that client ends them. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ForeignJob } from '../../generated/blockjob/v1/block_job_service.ts';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import type { Admin } from '../support/real-qemu/qemu.ts';
import { whileStopped } from '../support/real-qemu/while-stopped.ts';
import { byId, refused } from '../support/service/caller.ts';

const ID = 'drive-virtio-disk0';
const SLOW = 65_536;
const GOES_ON = ['running', 'ready'];
const CONCLUDED = ['concluded'];

interface Nodes {
  /** Top first. */
  readonly chain: readonly string[];
  readonly dir: string;
}

interface Kind {
  readonly type: string;
  readonly onDisk: boolean;
  readonly status: readonly string[];
  /** Runs the command, with the id. */
  readonly begin: (admin: Admin, nodes: Nodes) => Promise<unknown>;
}

const sink = async (admin: Admin) =>
  await admin.execute('blockdev-add', { driver: 'null-co', 'node-name': 'sink', size: 4 * MIB });
const common = { 'job-id': ID, speed: SLOW };

const KINDS: readonly Kind[] = [
  {
    type: 'mirror',
    onDisk: true,
    status: GOES_ON,
    begin: async (admin, { chain: [top] }) => {
      await sink(admin);
      await admin.execute('blockdev-mirror', { ...common, device: top, target: 'sink', sync: 'full' });
    },
  },
  {
    type: 'backup',
    onDisk: true,
    status: GOES_ON,
    begin: async (admin, { chain: [top] }) => {
      await sink(admin);
      await admin.execute('blockdev-backup', { ...common, device: top, target: 'sink', sync: 'full' });
    },
  },
  {
    type: 'stream',
    onDisk: true,
    status: GOES_ON,
    begin: async (admin, { chain: [top] }) => await admin.execute('block-stream', { ...common, device: top }),
  },
  {
    type: 'commit',
    onDisk: true,
    status: GOES_ON,
    begin: async (admin, { chain: [top, middle] }) =>
      await admin.execute('block-commit', { ...common, device: top, 'top-node': middle }),
  },
  {
    // It waits for a dismissal, as the next one does.
    type: 'create',
    onDisk: false,
    status: CONCLUDED,
    begin: async (admin, { dir }) => {
      const filename = join(dir, 'made');
      await writeFile(filename, '');
      await admin.execute('blockdev-create', { 'job-id': ID, options: { driver: 'file', filename, size: 0 } });
    },
  },
  {
    type: 'snapshot-save',
    onDisk: false,
    status: CONCLUDED,
    begin: async (admin, { chain: [top] }) =>
      await admin.execute('snapshot-save', { 'job-id': ID, tag: 'monday', vmstate: top, devices: [top] }),
  },
];

let site: Site;

async function chainOf({ disk: { domain } }: Machine): Promise<readonly string[]> {
  const { disks } = await site.service.getDomain(domain);
  return present(disks[0]).chain.map(({ nodeName }) => nodeName);
}

async function foreign({ disk: { domain } }: Machine): Promise<readonly ForeignJob[]> {
  return (await site.service.listJobs({ domain })).foreignJobs;
}

describe.skipIf(needs('qemu'))('a job of another client', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test.each(KINDS)('$type is shown as QEMU reports it, and cannot be ended here', async (kind) => {
    const { service } = site;
    await using machine = await site.machine();
    const { disk, dir, qemu } = machine;
    const chain = await chainOf(machine);
    expect(await foreign(machine)).toEqual([]);
    await kind.begin(qemu.admin, { chain, dir });

    const job = await eventually(`it is ${kind.status.join()}`, async () =>
      (await foreign(machine)).find(({ status, end }) => kind.status.includes(status) && end > 0n),
    );
    expect(job).toEqual({
      id: ID,
      disk: { domain: disk.domain, disk: kind.onDisk ? disk.disk : '' },
      domainUuid: qemu.uuid ?? '',
      host: 'host-under-test',
      kind: kind.type,
      status: expect.any(String),
      current: expect.any(BigInt),
      end: expect.any(BigInt),
      error: '',
      managedByLibvirt: false,
    });
    const [said] = await qemu.admin.execute<{ 'total-progress': number }[]>('query-jobs');
    expect(job.end).toBe(BigInt(present(said)['total-progress']));

    expect((await service.listJobs({ domain: disk.domain })).jobs).toEqual([]);
    const { STATE_RUNNING, STATE_FAILED } = Job_State;
    expect((await service.listJobs({ stateFilter: [STATE_RUNNING] })).foreignJobs).toMatchObject([{ id: ID }]);
    expect((await service.listJobs({ stateFilter: [STATE_FAILED] })).foreignJobs).toEqual([]);
    for (const named of [byId(ID), { name: { $case: 'disk', value: disk } } as const]) {
      const reason = expect.stringMatching(/^(JOB_NOT_FOUND|DISK_HAS_NO_JOB)$/) as string;
      expect(await refused(service.abort({ job: named, force: true }))).toMatchObject({ reason });
    }
    expect(await foreign(machine)).toMatchObject([{ id: ID }]);
    await qemu.admin.execute(kind.status === GOES_ON ? 'job-cancel' : 'job-dismiss', { id: ID });
    await eventually('it is gone', async () => ((await foreign(machine)).length === 0 ? true : undefined));
  });

  test('that has failed is shown with its error, until it is dismissed', async () => {
    await using machine = await site.machine();
    const options = { driver: 'file', filename: '/nowhere/at/all', size: 0 };
    await machine.qemu.admin.execute('blockdev-create', { 'job-id': ID, options });
    const job = await eventually('it has concluded', async () =>
      (await foreign(machine)).find(({ status }) => status === 'concluded'),
    );
    expect(job.error).toContain('No such file or directory');
  });

  test('is never one of ours, at any step', async () => {
    const { service } = site;
    await using machine = await site.machine();
    const destination = { target: { $case: 'file', value: join(machine.dir, 'copy') } } as const;
    const started = service.startCopy({ disk: machine.disk, destination, bandwidthBytesPerSecond: BigInt(SLOW) });
    const seen: ForeignJob[] = [];
    const isOver = started.then(() => true);
    while (!(await Promise.race([isOver, foreign(machine).then((found) => void seen.push(...found))])));
    seen.push(...(await foreign(machine)));
    expect(seen).toEqual([]);
    await service.abort({ job: byId((await started).id), force: true });
  });

  test('is not known if QEMU does not answer, and the answer says so; if QEMU has ended there is none', async () => {
    const { service } = site;
    const machine = await site.machine();
    await using _machine = machine;
    const { disk, qemu, dir } = machine;
    await present(KINDS[0]).begin(qemu.admin, { chain: await chainOf(machine), dir });
    expect(await foreign(machine)).toHaveLength(1);
    await whileStopped(qemu.pid, async () => {
      const { foreignJobs, unreachableDomains } = await service.listJobs({ domain: disk.domain });
      expect({ foreignJobs, unreachableDomains }).toEqual({ foreignJobs: [], unreachableDomains: [disk.domain] });
      const ended = await service.listJobs({ stateFilter: [Job_State.STATE_FAILED] });
      expect(ended.unreachableDomains).toEqual([]);
      // It is not asked repeatedly: otherwise each of the answers would take a second.
      const took: number[] = [];
      while (took.length < 5) {
        const before = performance.now();
        expect((await service.listJobs()).unreachableDomains).toEqual([disk.domain]);
        took.push(performance.now() - before);
      }
      expect(Math.min(...took)).toBeLessThan(900);
    });
    await eventually('it answers again', async () => ((await foreign(machine)).length === 1 ? true : undefined));
    process.kill(qemu.pid, 'SIGKILL');
    await eventually('nothing is missing any more', async () => {
      const { foreignJobs, unreachableDomains } = await service.listJobs();
      return foreignJobs.length + unreachableDomains.length === 0 ? true : undefined;
    });
  });
});
