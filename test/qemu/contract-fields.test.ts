/** Fields of the contract that are empty or absent, and promises of its comments about a job: one QEMU shows them all. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Operation } from '../../generated/blockjob/v1/domain_service.ts';
import { ImageFormat, Job_State, JobKind, WriteMode } from '../../generated/blockjob/v1/job.ts';
import { eventually, graphOf, monitorIn, present } from '../support/checks.ts';
import { NbdServer } from '../support/images/nbd-server.ts';
import { needs } from '../support/means.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { makeChain, type Qemu, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const NAME = 'contract-fields';
const SLOW = 65_536n;
const RAW = ImageFormat.IMAGE_FORMAT_RAW;
const disk = { domain: NAME, disk: 'disk0' };
const byDisk = { name: { $case: 'disk', value: disk } } as const;

const held = new AsyncDisposableStack();
let site: Site;
let qemu: Qemu;
let dir: string;

function copyTo(name: string, format: ImageFormat = RAW) {
  return { disk, destination: { target: { $case: 'file', value: join(dir, name) } as const, format } };
}

describe.skipIf(needs('qemu'))('the contract', () => {
  beforeAll(async () => {
    site = held.use(await Site.open(['nbd://127.0.0.1']));
    dir = held.use(await testDir()).path;
    const { server } = held.use(await NbdServer.start({ folder: dir, sizeBytes: 4 * MIB, over: 'unix' }));
    if (server.$case !== 'unixSocket') throw new Error('not served over a unix socket');
    const chain = await makeChain(dir, { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: 4 * MIB });
    const nbd = `driver=nbd,node-name=net,server.type=unix,server.path=${server.value},export=disk0`;
    qemu = held.use(
      await startQemu({
        style: 'blockdev',
        name: NAME,
        // QEMU, and so the service, takes a UUID of zeroes for no UUID.
        uuid: '00000000-0000-0000-0000-000000000000',
        disks: [{ id: 'disk0', bus: 'virtio-blk', chain }],
        extraArgs: [
          ...monitorIn(site.sockets, NAME),
          '-blockdev',
          nbd,
          '-blockdev',
          'driver=raw,node-name=net-raw,file=net',
          '-device',
          'virtio-blk-pci,id=net0,drive=net-raw',
        ],
      }),
    );
    await site.service.domainUp(NAME);
  });
  afterAll(async () => {
    await held.disposeAsync();
  });

  test('a job of a plain call has no UUID, time limit, error, request_id, labels or caller, and no end before its end', async () => {
    const { service } = site;
    const started = await service.startCopy({ ...copyTo('plain'), bandwidthBytesPerSecond: SLOW });
    expect(started).toMatchObject({
      domainUuid: '',
      readyTime: undefined,
      endTime: undefined,
      error: undefined,
      requestId: '',
      labels: {},
      createdBy: '',
      options: { timeLimit: undefined },
      outcome: { guestChangedByJobId: '', destinationChangedByJobId: '', asOf: undefined },
    });
    await service.setSpeed(started.id, 0n);
    const { job: ready } = await service.until(started.id, 'STATE_READY');
    expect(ready).toMatchObject({ readyTime: expect.any(Date) as Date, endTime: undefined });
    const ended = await service.abort({ job: byId(started.id) });
    expect(ended).toMatchObject({
      state: Job_State.STATE_CANCELLED,
      error: undefined,
      readyTime: present(ready).readyTime,
    });
    const times = [];
    for await (const { time } of service.watch(started.id, 0)) times.push(time);
    expect(ended.endTime).toEqual(times.at(-1));
  });

  test('a pull has no destination, and is never READY', async () => {
    const { service } = site;
    const pull = await service.rebase({ disk, base: 'disk0[2]' });
    expect(pull).toMatchObject({ kind: JobKind.JOB_KIND_PULL, destination: undefined });
    expect(await site.ended(pull)).toMatchObject({ state: Job_State.STATE_COMPLETED, readyTime: undefined });
  });

  test('an id names the same job for ever, and a disk names the latest one', async () => {
    const { service } = site;
    const ids: string[] = [];
    for (const name of ['first', 'second']) {
      const { id } = await service.startCopy({ ...copyTo(name), bandwidthBytesPerSecond: SLOW });
      expect(await service.abort({ job: byDisk })).toMatchObject({ id });
      ids.push(id);
      expect(await refused(service.abort({ job: byDisk }))).toMatchObject({
        reason: 'JOB_ENDED',
        metadata: { job: id },
      });
    }
    for (const id of ids) expect((await service.getInfo(id)).id).toBe(id);
    expect(await refused(service.abort({ job: byId(present(ids[0])) }))).toMatchObject({ metadata: { job: ids[0] } });
  });

  test('the bytes on disk of an image are absent where QEMU does not report them', async () => {
    const { disks } = await site.service.getDomain(NAME);
    const bytesOf = (name: string) => present(disks.find(({ qdevId }) => qdevId === name)).chain[0]?.allocatedBytes;
    expect(bytesOf('disk0')).toBeGreaterThan(0n);
    expect(bytesOf('net0')).toBeUndefined();
  });

  test('an export without a name is the default one of its server, and needs no TLS', async () => {
    await using folder = await testDir();
    await using server = await NbdServer.start({
      folder: folder.path,
      sizeBytes: 4 * MIB,
      over: 'tcp',
      exportName: '',
    });
    await qemu.admin.hmpQemuIo('disk0', 'write -P 0x33 2M 64k');
    const destination = { target: { $case: 'nbd', value: server.target } } as const;
    const { id } = await site.service.startCopy({ disk, destination });
    await site.service.until(id, 'STATE_READY');
    await site.service.abort({ job: byId(id) });
    expect((await readFile(server.file)).subarray(2 * MIB, 2 * MIB + 65_536)).toEqual(Buffer.alloc(65_536, 0x33));
  });

  test('BLOCKING: a write that the guest is told to be done is at the destination, and in BACKGROUND it need not be', async () => {
    const { service } = site;
    const isThere: Record<string, boolean> = {};
    for (const mode of ['BLOCKING', 'BACKGROUND'] as const) {
      const { id } = await service.startCopy({ ...copyTo(mode), writeMode: WriteMode[`WRITE_MODE_${mode}`] });
      await service.until(id, 'STATE_READY');
      // Nothing is copied later.
      await service.pause(id);
      await qemu.admin.hmpQemuIo('disk0', 'write -P 0x5a 1M 64k');
      const bytes = (await readFile(join(dir, mode))).subarray(MIB, MIB + 65_536);
      isThere[mode] = bytes.equals(Buffer.alloc(65_536, 0x5a));
      await qemu.admin.hmpQemuIo('disk0', 'write -P 0 1M 64k');
      await service.abort({ job: byId(id), force: true });
    }
    expect(isThere).toEqual({ BLOCKING: true, BACKGROUND: false });
  });

  test("another client's job below the active image forbids an operation: CHAIN_BUSY", async () => {
    const { service } = site;
    const asked = { domain: NAME, operation: Operation.OPERATION_SAVE };
    await expect(service.checkOperation(asked)).resolves.toBeUndefined();
    const node = 'below';
    const file = { driver: 'file', filename: join(dir, 'below.qcow2') };
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', file.filename, String(4 * MIB)]);
    await qemu.admin.execute('blockdev-add', { driver: 'qcow2', 'node-name': node, file });
    await qemu.admin.execute('blockdev-add', { driver: 'null-co', 'node-name': 'sink', size: 4 * MIB });
    await qemu.admin.execute('blockdev-mirror', {
      'job-id': 'foreign',
      device: node,
      target: 'sink',
      sync: 'full',
      speed: 1,
    });
    expect(await service.checkOperation(asked)).toMatchObject({
      reason: 'CHAIN_BUSY',
      metadata: { job: 'foreign' },
      blocking: [],
    });
    await qemu.admin.execute('block-job-cancel', { device: 'foreign', force: true });
    await eventually('it is over', async () => ((await graphOf(qemu.admin)).jobs.length === 0 ? true : undefined));
    await expect(service.checkOperation(asked)).resolves.toBeUndefined();
  });
});
