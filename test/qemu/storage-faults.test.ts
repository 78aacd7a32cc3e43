/**
 * Storage that fails in the middle of a copy: a destination without room, disks that cannot be read or written, a full
 * state folder, an NBD server that dies or hangs. The guest keeps writing through all of it and sees no error; the job
 * reports the cause; and all leftovers are listed.
 */
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import {
  DestinationContent,
  ImageFormat,
  type Job,
  Job_State,
  OnNoSpace,
  PauseReason,
  WriteMode,
} from '../../generated/blockjob/v1/job.ts';
import { eventually, expectClean, graphOf, present } from '../support/checks.ts';
import { NbdServer, type NbdServerOptions } from '../support/images/nbd-server.ts';
import { canMount, fill, smallFileSystem } from '../support/images/small-file-system.ts';
import { needs } from '../support/means.ts';
import { MIB } from '../support/real-qemu/bench-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { expectRight, Rig, topOf } from '../support/real-qemu/rig.ts';
import { byId, errorOf, type Refusal, refusalOf, refused } from '../support/service/caller.ts';

const { DESTINATION_CONTENT_PARTIAL: PARTIAL, DESTINATION_CONTENT_STALE: STALE } = DestinationContent;
const { ON_NO_SPACE_FAIL: FAIL, ON_NO_SPACE_PAUSE: PAUSE } = OnNoSpace;
const { WRITE_MODE_BLOCKING: BLOCKING, WRITE_MODE_BACKGROUND: BACKGROUND } = WriteMode;
const EIO = 'Input/output error';
const LOAD = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.rd=10 gw.batch=4 gw.rate=8';

/** A disk full of data, to all of which the guest writes. */
const FULL = 1;
const FULL_MIB = 32;
/** An empty disk, of which the guest writes a few MiB: a copy of it is as small, until the guest writes more. */
const GROWING = 2;
const GROWING_MIB = 128;
/** A disk with a sector in the middle that cannot be read; the guest does not use it. */
const WORN = 3;
const DISKS = [
  `id=${FULL},size=${FULL_MIB}M,chain=2,cache=writeback`,
  `id=${GROWING},size=${GROWING_MIB}M,fill=0,cache=writeback`,
  `id=${WORN},size=32M,fmt=raw,cache=writeback,bad=20`,
];
const WINDOWS = `gw${GROWING}.ws=2 gw${WORN}.ws=8`;

type Options = Partial<Omit<StartCopyRequest, 'disk' | 'destination'>>;
type Target = NonNullable<StartCopyRequest['destination']>['target'];

let rig: Rig;

/** A folder of the test, in which copies are allowed. */
async function folder(): Promise<string> {
  const path = join(rig.folder, `t${String(Math.random()).slice(2, 10)}`);
  await mkdir(path);
  return path;
}

async function start(disk: number, target: Target, options: Options = {}): Promise<string> {
  const ref = { domain: 'web1', disk: rig.vm.deviceId(disk) };
  const format = target?.$case === 'file' ? ImageFormat.IMAGE_FORMAT_QCOW2 : ImageFormat.IMAGE_FORMAT_UNSPECIFIED;
  const { id } = await rig.service.startCopy({
    disk: ref,
    destination: { target, format },
    // Their space is small on purpose.
    overcommit: true,
    ...options,
  });
  return id;
}

/**
 * Slowly at first, except for the 16 MiB that QEMU copies at once: a copy that fails in its first moments is refused.
 * The error has to come after these.
 */
async function startSlowly(disk: number, target: Target, options: Options = {}): Promise<string> {
  const id = await start(disk, target, { ...options, bandwidthBytesPerSecond: 65_536n });
  await rig.service.setSpeed(id, 0n);
  return id;
}

const file = (path: string) => ({ $case: 'file', value: path }) as const;

/** An export that is as large as the disk. */
async function served(disk: typeof FULL | typeof GROWING, fault?: NbdServerOptions['fault']): Promise<NbdServer> {
  const sizeBytes = { [FULL]: FULL_MIB, [GROWING]: GROWING_MIB }[disk] * MIB;
  const options = { folder: await folder(), sizeBytes, over: 'unix' } as const;
  return await NbdServer.start(fault === undefined ? options : { ...options, fault });
}

function nbd({ server }: NbdServer): Target {
  return { $case: 'nbd', value: { server, exportName: 'disk0', tlsCredentialsId: '', tlsHostname: '' } };
}

/** The name of the export in the service. */
function uriOf({ server }: NbdServer): string {
  if (server.$case === 'tcp') throw new Error('not served on a socket');
  return `nbd+unix:///disk0?socket=${server.value}`;
}

/** The job when QEMU has paused it for an error; while QEMU drains its disks it may be paused before, for a moment. */
async function paused(id: string): Promise<Job> {
  const { PAUSE_REASON_NO_SPACE, PAUSE_REASON_IO_ERROR } = PauseReason;
  for await (const { job } of rig.service.watch(id)) {
    if (job?.pauseReason === PAUSE_REASON_NO_SPACE || job?.pauseReason === PAUSE_REASON_IO_ERROR) return job;
  }
  throw new Error(`job ${id} was not paused, and has ended`);
}

/** The part of the growing disk that the guest may use. */
let usedMib = 0;

/** The guest begins to write 2 MiB in a new place; `grow` adds 6 MiB behind those. */
async function freshPlace(): Promise<{ grow: () => Promise<void>; behindByte: number }> {
  const offset = usedMib;
  usedMib += 8;
  if (usedMib > GROWING_MIB) throw new Error('the growing disk is used up');
  await rig.vm.command(`set d${GROWING} off=${offset} ws=2`);
  await rig.vm.work(GROWING, 64);
  return {
    behindByte: (offset + 4) * MIB,
    grow: async () => {
      await rig.vm.command(`set d${GROWING} ws=8`);
    },
  };
}

/** Nothing of the job is left in QEMU; the guest continues on the unchanged disk, and has seen no error. */
async function expectUnharmed(id: string, disk: number): Promise<void> {
  const { vm, admin } = rig;
  await vm.work(disk, 64);
  await vm.pause();
  expectClean(await graphOf(admin), id);
  await expectRight(rig, disk, topOf(vm, disk));
  await vm.resume();
  expect(admin.events.filter(({ event }) => event === 'BLOCK_IO_ERROR')).toEqual([]);
}

/** The copy became useless before it was READY, and is gone. */
const REMOVED = { destinationContent: PARTIAL, destinationRemoved: true, safeToDelete: [] };

async function expectFailed(
  id: string,
  disk: number,
  error: { code: number; reason: string; metadata: object; message: string },
) {
  const { job } = await rig.service.until(id, 'STATE_FAILED');
  const ended = present(job);
  expect(errorOf(ended)).toMatchObject({ ...error, message: expect.stringContaining(error.message) as string });
  const { evidence, guestWritesTo } = present(ended.outcome);
  const guestOn = topOf(rig.vm, disk).path;
  expect(guestWritesTo).toBe(guestOn);
  expect(evidence.map(({ text }) => text)).toEqual([
    expect.stringMatching(/^QEMU concluded the job: (No space left on device|Input\/output error)$/),
    `device ${rig.vm.deviceId(disk)} was on ${guestOn}`,
  ]);
  return ended;
}

/** A copy that was READY when it failed is not removed without a request, because somebody may want its data. */
async function expectReclaimed(id: string, path: string): Promise<void> {
  const left = (await rig.service.listLeftovers()).filter(({ jobId }) => jobId === id);
  expect(left).toMatchObject([{ name: path, blockedBy: '' }]);
  await rig.service.reclaim(
    left.map((one) => one.id),
    true,
  );
  expect(existsSync(path)).toBe(false);
}

const noSpace = (path: string) => ({
  code: status.RESOURCE_EXHAUSTED,
  reason: 'NO_SPACE',
  metadata: { path, qemuText: 'No space left on device' },
  message: `${path}: No space left on device`,
});

const ioError = (doing: string, path: string) => ({
  code: status.FAILED_PRECONDITION,
  reason: 'STORAGE_FAILED',
  metadata: { path, qemuText: EIO },
  message: `${doing}: ${EIO}`,
});

/** Each request is recorded, though it changes nothing. */
async function untilRefused(id: string): Promise<Refusal> {
  const { bandwidthBytesPerSecond: speed } = await rig.service.getInfo(id);
  for (let number = 0; ; number += 1) {
    const refusal = await rig.service.setSpeed(id, speed, `${id.slice(-4)}-${number}`).then(() => undefined, refusalOf);
    if (refusal !== undefined) return refusal;
  }
}

/** A guest, and a service whose state folder can be filled up. */
async function fullState() {
  await using open = new AsyncDisposableStack();
  const { path } = open.use(await testDir());
  const small = open.use(await smallFileSystem(path, 1));
  const disks = ['id=1,size=16M,chain=2', 'id=2,size=16M,fmt=raw', 'id=3,size=16M'];
  const complaints = /A move of the job failed; trying again/;
  rig = open.use(await Rig.start({ disks, append: LOAD, args: ['--state-dir', small.path], complaints }));
  const jobs = join(small.path, 'jobs');
  const held = open.move();
  return {
    noRoom: {
      code: status.RESOURCE_EXHAUSTED,
      reason: 'NO_SPACE',
      metadata: { path: jobs },
      message: expect.stringContaining('ENOSPC: the file system is full') as string,
    },
    /** Leaves only room for a short entry of these jobs, though the last page of a journal may have had some. */
    fill: async (...ids: readonly string[]) => {
      const filler = await fill(small.path);
      for (const id of ids) await expect(untilRefused(id)).resolves.toMatchObject({ reason: 'NO_SPACE' });
      return filler;
    },
    [Symbol.asyncDispose]: async () => await held.disposeAsync(),
  };
}

describe.skipIf(needs('guest'))('storage that fails', () => {
  beforeAll(async () => {
    rig = await Rig.start({ disks: DISKS, append: `${LOAD} ${WINDOWS}` });
  });
  afterAll(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  describe.skipIf(!canMount())('a destination without room', () => {
    test('before READY, FAIL: the job has failed, and says that there was no space', async () => {
      await using small = await smallFileSystem(rig.folder, 24);
      const path = join(small.path, 'copy');
      const id = await startSlowly(FULL, file(path), { onNoSpace: FAIL });
      const { outcome } = await expectFailed(id, FULL, noSpace(path));
      expect(outcome).toMatchObject(REMOVED);
      expect(existsSync(path)).toBe(false);
      await expectUnharmed(id, FULL);
    });

    test.each([
      { what: 'PAUSE', options: { onNoSpace: PAUSE } },
      { what: 'BLOCKING', options: { writeMode: BLOCKING } },
    ])('before READY, $what: the job waits, and leaves nothing when it is aborted', async ({ options }) => {
      await using small = await smallFileSystem(rig.folder, 8);
      const path = join(small.path, 'copy');
      const id = await start(FULL, file(path), options);
      expect(await paused(id)).toMatchObject({
        state: Job_State.STATE_RUNNING,
        pauseReason: PauseReason.PAUSE_REASON_NO_SPACE,
      });
      // QEMU then forgets why it has paused the job: it must not look like the wish of a client.
      for (const command of ['stop', 'cont']) await rig.admin.execute(command);
      await rig.vm.work(FULL, 64);
      expect((await rig.service.getInfo(id)).pauseReason).toBe(PauseReason.PAUSE_REASON_NO_SPACE);
      const job = await rig.service.abort({ job: byId(id) });
      expect(job).toMatchObject({ state: Job_State.STATE_CANCELLED, error: undefined, outcome: REMOVED });
      expect(existsSync(path)).toBe(false);
      await expectUnharmed(id, FULL);
    });

    test('while READY, FAIL: the writes of the guest have no room; the stale copy is listed until it is reclaimed', async () => {
      await using small = await smallFileSystem(rig.folder, 64);
      const path = join(small.path, 'copy');
      const { grow } = await freshPlace();
      const id = await start(GROWING, file(path), { onNoSpace: FAIL });
      await rig.service.until(id, 'STATE_READY');
      await fill(small.path);
      await grow();
      const { outcome } = await expectFailed(id, GROWING, noSpace(path));
      expect(outcome).toMatchObject({
        destinationContent: STALE,
        destinationRemoved: false,
        safeToDelete: [{ path, warning: 'an incomplete copy that this job made' }],
      });
      await expectUnharmed(id, GROWING);
      await expectReclaimed(id, path);
    });

    test.each([
      { what: 'PAUSE', options: { onNoSpace: PAUSE } },
      { what: 'BLOCKING', options: { writeMode: BLOCKING } },
    ])('while READY, $what: the job waits; aborted, it leaves a stale copy', async ({ options }) => {
      await using small = await smallFileSystem(rig.folder, 64);
      const path = join(small.path, 'copy');
      const { grow } = await freshPlace();
      const id = await start(GROWING, file(path), options);
      await rig.service.until(id, 'STATE_READY');
      await fill(small.path);
      await grow();
      expect(await paused(id)).toMatchObject({
        state: Job_State.STATE_READY,
        pauseReason: PauseReason.PAUSE_REASON_NO_SPACE,
        outcome: { guestWritesTo: topOf(rig.vm, GROWING).path },
      });
      await rig.vm.work(GROWING, 64);
      const job = await rig.service.abort({ job: byId(id) });
      expect(job).toMatchObject({
        state: Job_State.STATE_CANCELLED,
        outcome: { destinationContent: STALE, destinationRemoved: false },
      });
      await expectUnharmed(id, GROWING);
      await expectReclaimed(id, path);
    });

    test.each([
      { what: 'PAUSE', options: { onNoSpace: PAUSE } },
      { what: 'BLOCKING', options: { writeMode: BLOCKING } },
    ])('while READY, $what: with room again the job continues, and the copy is complete', async ({ options }) => {
      await using small = await smallFileSystem(rig.folder, 64);
      const path = join(small.path, 'copy');
      const { grow } = await freshPlace();
      const id = await start(GROWING, file(path), options);
      await rig.service.until(id, 'STATE_READY');
      const filler = await fill(small.path);
      await grow();
      await paused(id);
      await rig.vm.work(GROWING, 64);
      await rm(filler);
      const resumed = await rig.service.resume(id);
      expect(resumed.pauseReason).toBe(PauseReason.PAUSE_REASON_UNSPECIFIED);
      await rig.vm.work(GROWING, 64);
      await rig.vm.pause();
      const job = await rig.service.abort({ job: byId(id) });
      expect(job).toMatchObject({
        state: Job_State.STATE_CANCELLED,
        outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE },
      });
      expect(await rig.vm.check(GROWING, { image: path, format: 'qcow2' })).toMatchObject({ ok: true, text: '' });
      await rig.vm.resume();
      await expectUnharmed(id, GROWING);
    });
  });

  describe('a disk with a sector that cannot be read', () => {
    test('the job has failed, and names the disk', async () => {
      const path = join(rig.folder, 'worn');
      const id = await startSlowly(WORN, file(path));
      const source = topOf(rig.vm, WORN).path;
      const { outcome } = await expectFailed(
        id,
        WORN,
        ioError(`copying: reading ${source}, or an image below it`, source),
      );
      expect(outcome).toMatchObject(REMOVED);
      expect(existsSync(path)).toBe(false);
      await expectUnharmed(id, WORN);
    });

    test('BLOCKING: the job waits, and leaves nothing when it is aborted', async () => {
      const path = join(rig.folder, 'worn');
      const id = await start(WORN, file(path), { writeMode: BLOCKING, bandwidthBytesPerSecond: BigInt(8 * MIB) });
      expect(await paused(id)).toMatchObject({
        state: Job_State.STATE_RUNNING,
        pauseReason: PauseReason.PAUSE_REASON_IO_ERROR,
      });
      await rig.vm.work(WORN, 64);
      const job = await rig.service.abort({ job: byId(id) });
      expect(job).toMatchObject({ state: Job_State.STATE_CANCELLED, outcome: REMOVED });
      expect(existsSync(path)).toBe(false);
      await expectUnharmed(id, WORN);
    });
  });

  describe('an NBD server with a disk that cannot be written', () => {
    test.each(['EIO', 'ENOSPC'] as const)(
      'before READY, %s: the job has failed, and names the export',
      async (errno) => {
        await using server = await served(FULL, { atByte: 24 * MIB, errno });
        const id = await startSlowly(FULL, nbd(server), { onNoSpace: FAIL });
        const uri = uriOf(server);
        const error = errno === 'EIO' ? ioError(`copying: writing ${uri}`, uri) : noSpace(uri);
        const { outcome } = await expectFailed(id, FULL, error);
        expect(outcome).toMatchObject({ destinationContent: PARTIAL, destinationRemoved: false, safeToDelete: [] });
        await expectUnharmed(id, FULL);
      },
    );

    test('while READY: the job has failed, and names the export', async () => {
      const { grow, behindByte } = await freshPlace();
      await using server = await served(GROWING, { atByte: behindByte, errno: 'EIO' });
      const id = await start(GROWING, nbd(server));
      await rig.service.until(id, 'STATE_READY');
      await grow();
      const { outcome } = await expectFailed(id, GROWING, ioError(`copying: writing ${uriOf(server)}`, uriOf(server)));
      expect(outcome).toMatchObject({ destinationContent: STALE, safeToDelete: [] });
      await expectUnharmed(id, GROWING);
    });

    test('while READY, BLOCKING: the job waits; the guest does not', async () => {
      const { grow, behindByte } = await freshPlace();
      await using server = await served(GROWING, { atByte: behindByte, errno: 'EIO' });
      const id = await start(GROWING, nbd(server), { writeMode: BLOCKING });
      await rig.service.until(id, 'STATE_READY');
      await grow();
      expect(await paused(id)).toMatchObject({
        state: Job_State.STATE_READY,
        pauseReason: PauseReason.PAUSE_REASON_IO_ERROR,
      });
      await rig.vm.work(GROWING, 64);
      const job = await rig.service.abort({ job: byId(id) });
      expect(job).toMatchObject({ state: Job_State.STATE_CANCELLED, outcome: { destinationContent: STALE } });
      await expectUnharmed(id, GROWING);
    });
  });

  describe('an NBD server that dies or hangs', () => {
    test('before READY: the job has failed, and names the export', async () => {
      await using server = await served(FULL);
      const id = await start(FULL, nbd(server), { bandwidthBytesPerSecond: BigInt(MIB) });
      await server.die();
      const { outcome } = await expectFailed(id, FULL, ioError(`copying: writing ${uriOf(server)}`, uriOf(server)));
      expect(outcome).toMatchObject({ destinationContent: PARTIAL, destinationRemoved: false, safeToDelete: [] });
      await expectUnharmed(id, FULL);
    });

    test('while READY: the job has failed, and names the export', async () => {
      await using server = await served(FULL);
      const id = await start(FULL, nbd(server));
      await rig.service.until(id, 'STATE_READY');
      await server.die();
      const { outcome } = await expectFailed(id, FULL, ioError(`copying: writing ${uriOf(server)}`, uriOf(server)));
      expect(outcome).toMatchObject({ destinationContent: STALE, safeToDelete: [] });
      await expectUnharmed(id, FULL);
    });

    test('in the middle of a pivot: the guest stays on the source', async () => {
      await using server = await served(FULL);
      const id = await start(FULL, nbd(server));
      await rig.service.until(id, 'STATE_READY');
      // Its present requests are not answered: so the pivot cannot be done before the server dies.
      await server.hang();
      await rig.vm.work(FULL, 64);
      const asked = await rig.service.abort({ job: byId(id), pivot: true, returnImmediately: true });
      expect(asked.state).toBe(Job_State.STATE_PIVOTING);
      await server.die();
      const { outcome } = await expectFailed(id, FULL, ioError(`copying: writing ${uriOf(server)}`, uriOf(server)));
      expect(outcome).toMatchObject({ destinationContent: STALE, safeToDelete: [] });
      await expectUnharmed(id, FULL);
    });

    test('while READY, BLOCKING: the guest waits for the server for a short time, and no longer', async () => {
      await using server = await served(FULL);
      const id = await start(FULL, nbd(server), { writeMode: BLOCKING });
      await rig.service.until(id, 'STATE_READY');
      await server.die();
      expect(await paused(id)).toMatchObject({
        state: Job_State.STATE_READY,
        pauseReason: PauseReason.PAUSE_REASON_IO_ERROR,
      });
      await rig.vm.work(FULL, 64);
      const job = await rig.service.abort({ job: byId(id) });
      expect(job).toMatchObject({ state: Job_State.STATE_CANCELLED, outcome: { destinationContent: STALE } });
      await expectUnharmed(id, FULL);
    });

    test.each([
      { what: 'BACKGROUND', writeMode: BACKGROUND },
      { what: 'BLOCKING', writeMode: BLOCKING },
    ])('that hangs, $what: an abort by force releases the guest', async ({ writeMode }) => {
      await using server = await served(FULL);
      const id = await start(FULL, nbd(server), { writeMode });
      await rig.service.until(id, 'STATE_READY');
      await server.hang();
      // In BLOCKING the guest's own write waits for the server now.
      if (writeMode === BACKGROUND) await rig.vm.work(FULL, 64);
      // With much under way QEMU 7.2 may keep waiting for the server, whatever the command: the job is CANCELLING until
      // the server is gone.
      const givesUp = setTimeout(() => void server.die(), 5000);
      const ended = rig.service.abort({ job: byId(id), force: true });
      const job = await ended.finally(() => clearTimeout(givesUp));
      expect(job).toMatchObject({ state: Job_State.STATE_CANCELLED, outcome: { destinationContent: STALE } });
      await expectUnharmed(id, FULL);
    });
  });
});

describe.skipIf(needs('guest') || !canMount())('a state folder that is full', () => {
  test('refuses changes that would have to be written down; the running jobs continue, and end as requested later', async () => {
    await using state = await fullState();
    const { service, vm } = rig;
    const [slow, ready] = [rig.image('slow', 'qcow2'), rig.image('ready', 'qcow2')];
    const running = await start(1, file(slow.path), { bandwidthBytesPerSecond: BigInt(MIB) });
    const id = await start(2, file(ready.path));
    await service.until(id, 'STATE_READY');
    const filler = await state.fill(running, id);

    const third = join(rig.folder, 'third');
    expect(await refused(start(3, file(third)))).toMatchObject(state.noRoom);
    expect(existsSync(third)).toBe(false);
    for (const pivot of [true, false]) {
      // An entry longer than the one that did not fit.
      const requestId = `${String(pivot)}-${'x'.repeat(80)}`;
      expect(await refused(service.abort({ job: byId(id), pivot, requestId }))).toMatchObject(state.noRoom);
    }
    expect((await service.getInfo(id)).state).toBe(Job_State.STATE_READY);
    // Whether or not that can be written down.
    await rig.admin.execute('block-job-set-speed', { device: running, speed: 0 });
    await eventually('QEMU has the copy READY', async () => {
      const jobs = await rig.admin.execute<{ id: string; status: string }[]>('query-jobs');
      return jobs.find((job) => job.id === running)?.status === 'ready' ? true : undefined;
    });
    await vm.work(1, 64);

    await rm(filler);
    await service.until(running, 'STATE_READY');
    for (const one of [running, id]) {
      expect((await service.abort({ job: byId(one), pivot: true })).state).toBe(Job_State.STATE_COMPLETED);
    }
    await Promise.all([vm.work(1, 64), vm.work(2, 64)]);
    await vm.pause();
    await expectRight(rig, 1, slow);
    await expectRight(rig, 2, ready);
  });

  test('and a service that is killed meanwhile: jobs that ended without it are reported correctly when there is room', async () => {
    await using state = await fullState();
    const ended = rig.image('ended', 'qcow2');
    const failed = join(rig.folder, 'failed');
    const id = await start(1, file(ended.path));
    await rig.service.until(id, 'STATE_READY');
    const other = await start(2, file(failed), { bandwidthBytesPerSecond: 65_536n });
    const filler = await state.fill(id, other);
    await rig.restart();
    expect((await rig.service.getInfo(id)).state).toBe(Job_State.STATE_READY);
    expect((await rig.service.getInfo(other)).state).toBe(Job_State.STATE_RUNNING);
    // Ended by another client, before READY and after it.
    await rig.admin.execute('job-cancel', { id: other });
    await rig.admin.execute('block-job-cancel', { device: id });
    await eventually('the service wants to write', () =>
      rig.service.log.includes('A move of the job failed') ? true : undefined,
    );
    expect((await rig.service.getInfo(id)).state).toBe(Job_State.STATE_READY);
    await rm(filler);
    const { job } = await rig.service.until(id, 'STATE_CANCELLED');
    expect(errorOf(present(job))?.message).toContain('another client ended it without a pivot');
    expect(job?.outcome).toMatchObject({
      guestWritesTo: topOf(rig.vm, 1).path,
      destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
    });
    await rig.service.until(other, 'STATE_CANCELLED');
    expect(existsSync(failed)).toBe(false);
    await expectUnharmed(id, 1);
    await expectUnharmed(other, 2);
  });
});
