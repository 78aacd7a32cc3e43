/**
 * Storage that hangs: it answers nothing, and ends nothing. The guest, which has other disks and CPUs, waits no longer
 * than a hold may last; the copy is given up.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ImageFormat, Job_State, PauseGuest } from '../../generated/blockjob/v1/job.ts';
import { eventually, expectClean, graphOf } from '../support/checks.ts';
import { NbdServer } from '../support/images/nbd-server.ts';
import { needs } from '../support/means.ts';
import { MIB } from '../support/real-qemu/bench-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { expectRight, type Pause, Rig, topOf } from '../support/real-qemu/rig.ts';
import { byId, refused } from '../support/service/caller.ts';

const LOOPBACK = 'nbd://127.0.0.1';
const SIZE_MIB = 16;
const [VIRTIO, NVME] = [1, 2];
/**
 * The limit of a hold, and the time to break a connection and to notice that. A guest's own time-out is 30 seconds and
 * more.
 */
const BOUND_MS = 20_000;

let rig: Rig;
let hasYank: boolean;

function at(port: number, disk: number) {
  const server = { $case: 'tcp', value: { host: '127.0.0.1', port } } as const;
  const nbd = { server, exportName: 'disk0', tlsCredentialsId: '', tlsHostname: '' };
  return {
    disk: { domain: 'web1', disk: rig.vm.deviceId(disk) },
    destination: { target: { $case: 'nbd', value: nbd }, format: ImageFormat.IMAGE_FORMAT_UNSPECIFIED },
  } as const;
}

/** Listens, sends this to each client, and nothing more. */
async function mute(greeting: Buffer): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(greeting);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const close = async () => await new Promise<void>((resolve) => server.close(() => resolve()));
  const sockets = new Set<{ destroy: () => void }>();
  server.on('connection', (socket) => sockets.add(socket));
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await close();
    },
  };
}

async function served(): Promise<NbdServer & { readonly port: number }> {
  const folder = held.use(await testDir()).path;
  const server = await NbdServer.start({ folder, sizeBytes: SIZE_MIB * MIB, over: 'tcp' });
  if (server.server.$case !== 'tcp') throw new Error('not served over TCP');
  return Object.assign(server, { port: server.server.value.port });
}

const held = new AsyncDisposableStack();

/** The guest soon continues its work on both disks. */
async function expectGuestWorks(): Promise<void> {
  await Promise.all([VIRTIO, NVME].map(async (disk) => await rig.vm.work(disk, 32, { timeoutMs: BOUND_MS })));
}

async function expectUnharmed(): Promise<void> {
  await rig.vm.pause();
  for (const disk of [VIRTIO, NVME]) await expectRight(rig, disk, topOf(rig.vm, disk));
  await rig.vm.resume();
}

async function ready(port: number, disk: number): Promise<string> {
  const { id } = await rig.service.startCopy(at(port, disk));
  await rig.service.until(id, 'STATE_READY');
  return id;
}

async function pivot(id: string, pause: Pause): Promise<void> {
  await rig.service.abort({
    job: byId(id),
    pivot: true,
    returnImmediately: true,
    pauseGuest: PauseGuest[`PAUSE_GUEST_${pause}`],
  });
}

async function giveUp(id: string): Promise<void> {
  const { state } = await rig.service.abort({ job: byId(id), force: true });
  expect(state).toBe(Job_State.STATE_CANCELLED);
}

/** The guest writes nothing, and QEMU has no data left to write. */
async function untilNothingIsUnderWay(): Promise<void> {
  await rig.vm.pause();
  await eventually('nothing is left to copy', async () => {
    const [job] = await rig.admin.execute<{ len: number; offset: number; busy: boolean }[]>('query-block-jobs');
    return job !== undefined && job.len === job.offset && !job.busy ? true : undefined;
  });
}

describe.skipIf(needs('guest'))('a guest and storage that hangs', { timeout: 240_000 }, () => {
  beforeAll(async () => {
    const disks = [`id=${VIRTIO},size=${SIZE_MIB}M,fmt=raw`, `id=${NVME},size=${SIZE_MIB}M,fmt=raw,bus=nvme`];
    const append = 'gw.mode=rand gw.bs=16 gw.batch=4 gw.rate=4';
    rig = held.use(await Rig.start({ disks, append, args: ['--allow-destination', LOOPBACK] }));
    const commands = await rig.admin.execute<{ name: string }[]>('query-commands');
    hasYank = commands.some(({ name }) => name === 'yank');
  });

  afterAll(async () => {
    await held.disposeAsync();
  });

  test('an NBD server that says nothing is never given to QEMU: the start is refused, and the guest continues', async () => {
    await using server = await mute(Buffer.alloc(0));
    const refusal = refused(rig.service.startCopy(at(server.port, VIRTIO)));
    await expectGuestWorks();
    expect(await refusal).toMatchObject({
      reason: 'DESTINATION_UNREACHABLE',
      metadata: { path: `nbd://127.0.0.1:${server.port}/disk0` },
      message: expect.stringContaining('it does not answer for 5 seconds') as string,
    });
    await expectGuestWorks();
  });

  test('a server that does not exist, or is not an NBD server, is refused at once', async () => {
    const gone = await mute(Buffer.from('SSH-2.0-x\r\n'));
    expect(await refused(rig.service.startCopy(at(gone.port, VIRTIO)))).toMatchObject({
      reason: 'DESTINATION_UNREACHABLE',
      message: expect.stringContaining('it is not an NBD server') as string,
    });
    await gone[Symbol.asyncDispose]();
    expect(await refused(rig.service.startCopy(at(gone.port, VIRTIO)))).toMatchObject({
      reason: 'DESTINATION_UNREACHABLE',
      message: expect.stringContaining('ECONNREFUSED') as string,
    });
  });

  test('one that greets, and then says nothing, delays the guest for five seconds', async ({ skip }) => {
    skip(!hasYank, 'a QEMU that is as old has no bound for it');
    await using server = await mute(Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1'));
    const refusal = refused(rig.service.startCopy(at(server.port, VIRTIO)));
    await expectGuestWorks();
    expect(await refusal).toMatchObject({ reason: 'DESTINATION_UNREACHABLE' });
    await expectUnharmed();
  });

  test('a start that waits for storage is cancelled by Abort, and both calls are answered', async ({ skip }) => {
    skip(!hasYank, 'a QEMU that is as old has no bound for it');
    await using server = await mute(Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1'));
    const refusal = refused(rig.service.startCopy(at(server.port, VIRTIO)));
    const starting = await eventually('the start is under way', async () => {
      const { jobs } = await rig.service.listJobs({ domain: 'web1' });
      return jobs.find(({ state }) => state === Job_State.STATE_STARTING);
    });
    const [job] = await Promise.all([
      rig.service.abort({ job: byId(starting.id), force: true }),
      // It is written down at once, whatever QEMU waits for.
      rig.service.until(starting.id, 'STATE_FAILED'),
      expectGuestWorks(),
    ]);
    expect(job).toMatchObject({ id: starting.id, state: Job_State.STATE_FAILED });
    expect(await refusal).toMatchObject({ code: expect.any(Number) });
    await expectUnharmed();
  });

  describe.each([
    { what: 'ALWAYS', disk: VIRTIO, pause: 'ALWAYS' },
    { what: 'AUTO of an NVMe disk', disk: NVME, pause: 'AUTO' },
  ] as const)('a pivot that pauses the guest, $what', ({ disk, pause }) => {
    test('is not begun while the server hangs; an abort by force ends it', async () => {
      await using server = await served();
      const id = await ready(server.port, disk);
      await server.hang();
      // Requests that it has now are not answered.
      await rig.vm.work(disk, 64);
      const stops = rig.guestStops();
      await pivot(id, pause);
      await expectGuestWorks();
      expect(rig.guestStops()).toBe(stops);
      if (!hasYank) server.goOn();
      await giveUp(id);
      await expectUnharmed();
    });
  });

  test('the server hangs without open requests: a pause for the pivot ends by itself, and the job has failed', async ({
    skip,
  }) => {
    skip(!hasYank, 'nothing ends it there');
    await using server = await served();
    const id = await ready(server.port, VIRTIO);
    await rig.vm.work(VIRTIO, 64);
    await untilNothingIsUnderWay();
    await server.hang();
    const stops = rig.guestStops();
    await pivot(id, 'ALWAYS');
    await eventually('the guest is paused', async () => await Promise.resolve(rig.guestStops() > stops || undefined));
    // QEMU may not notice that the connection is broken: the guest writes nothing there.
    await rig.service.until(id, 'STATE_FAILED');
    await rig.vm.resume();
    expect((await rig.service.getInfo(id)).outcome?.guestWritesTo).toBe(topOf(rig.vm, VIRTIO).path);
    await expectGuestWorks();
    await expectUnharmed();
  });

  test('a pivot that does not pause the guest does not block its disk either', async ({ skip }) => {
    skip(!hasYank, 'nothing ends it there');
    await using server = await served();
    const id = await ready(server.port, VIRTIO);
    await rig.vm.work(VIRTIO, 64);
    await untilNothingIsUnderWay();
    await server.hang();
    await pivot(id, 'NEVER');
    await rig.vm.resume();
    await expectGuestWorks();
    // If the guest wrote before QEMU had come to the copy's end, only the copy hangs, until somebody cuts the
    // connection.
    const [hanging] = await rig.admin.execute<{ len: number; offset: number }[]>('query-block-jobs');
    const isLeft = hanging !== undefined && hanging.len > hanging.offset;
    if (isLeft) await rig.service.abort({ job: byId(id), force: true });
    else await rig.service.until(id, 'STATE_FAILED');
    expect((await rig.service.getInfo(id)).outcome?.guestWritesTo).toBe(topOf(rig.vm, VIRTIO).path);
    await expectUnharmed();
  });

  test('nor does the start of a job on another disk, for which QEMU 10 and newer wait for all storage', async ({
    skip,
  }) => {
    skip(!hasYank, 'nothing ends it there');
    await using server = await served();
    const other = await ready(server.port, NVME);
    await server.hang();
    await rig.vm.work(NVME, 64);
    const starting = rig.copy(VIRTIO, rig.image('beside', 'raw'));
    await expectGuestWorks();
    const id = await starting;
    await rig.service.until(id, 'STATE_READY');
    expect((await rig.service.getInfo(id)).state).toBe(Job_State.STATE_READY);
    // On some QEMUs the other job has been given up.
    for (const job of [id, other]) await rig.service.abort({ job: byId(job), force: true }).catch(() => undefined);
    await expectUnharmed();
  });

  test('a pause for one disk does not wait for the other one’s copy, whose server hangs', async ({ skip }) => {
    skip(!hasYank, 'nothing ends it there');
    await using server = await served();
    const other = await ready(server.port, NVME);
    const next = rig.image('next', 'raw');
    const id = await rig.copy(VIRTIO, next);
    await rig.service.until(id, 'STATE_READY');
    await server.hang();
    await rig.vm.work(NVME, 64);
    await pivot(id, 'ALWAYS');
    await expectGuestWorks();
    await rig.service.until(other, 'STATE_FAILED');
    expect((await rig.service.getInfo(other)).outcome?.guestWritesTo).toBe(topOf(rig.vm, NVME).path);
    await rig.service.until(id, 'STATE_COMPLETED');
    // A filter that QEMU lost count of blocks every later job of the disk, and QEMU aborts at its end.
    expectClean(await graphOf(rig.admin), other);
    await rig.vm.pause();
    await expectRight(rig, VIRTIO, next);
    await expectRight(rig, NVME, topOf(rig.vm, NVME));
    await rig.vm.resume();
    await using another = await served();
    await giveUp(await ready(another.port, NVME));
  });
});
