/**
 * The space at the destination of a copy, with a real guest: a start that does not fit is refused; a destination that
 * fills up pauses the job before QEMU finds no space, and the job goes on by itself when there is room. The guest sees
 * nothing of it.
 */
import { appendFile, readdir, rm, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import {
  ImageFormat,
  type Job,
  Job_State,
  type JobEvent,
  JobEvent_Kind,
  JobSpace_Level,
  PauseReason,
} from '../../generated/blockjob/v1/job.ts';
import { expectClean, graphOf, present } from '../support/checks.ts';
import { LoopDevice } from '../support/images/loop-device.ts';
import { canMount, smallFileSystem } from '../support/images/small-file-system.ts';
import { needs } from '../support/means.ts';
import { MIB } from '../support/real-qemu/bench-qemu.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { expectRight, Rig, topOf } from '../support/real-qemu/rig.ts';
import { byId, refused } from '../support/service/caller.ts';

// Each copies some MiB slowly, beside a guest that writes.
vi.setConfig({ testTimeout: 300_000 });

const LOAD = 'gw.mode=rand gw.bs=16 gw.vary=1 gw.rd=10 gw.batch=4 gw.rate=8';

/** A disk full of data, to all of which the guest writes. */
const FULL = 1;
const FULL_MIB = 48;
/** A disk of which the guest writes 2 MiB: a copy of it can grow. */
const GROWING = 2;
const DISKS = [
  `id=${FULL},size=${FULL_MIB}M,chain=2,cache=writeback`,
  `id=${GROWING},size=128M,fill=0,cache=writeback`,
];
/** 16 MiB at once, every 8 seconds. */
const SLOWLY = { bandwidthBytesPerSecond: BigInt(2 * MIB) };
/** The loop devices. */
const DEVICES = ['--allow-destination', '/dev'];
const NUMBER = /^[1-9][0-9]*$/;

type Options = Partial<Omit<StartCopyRequest, 'disk' | 'destination'>>;

let rig: Rig;

function requestOf(disk: number, path: string, options: Options = {}) {
  const destination = { target: { $case: 'file', value: path }, format: ImageFormat.IMAGE_FORMAT_QCOW2 } as const;
  return { disk: { domain: 'web1', disk: rig.vm.deviceId(disk) }, destination, ...options };
}

async function start(disk: number, path: string, options: Options = {}): Promise<string> {
  return (await rig.service.startCopy(requestOf(disk, path, options))).id;
}

/** Takes the space of a file system, except for so many bytes; a copy may take some of it meanwhile. */
async function fillUpTo(folder: string, leaveBytes: number): Promise<string> {
  const path = join(folder, 'filler');
  const piece = Buffer.alloc(MIB, 1);
  for (;;) {
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize < leaveBytes) return path;
    await appendFile(path, piece);
  }
}

/** The event that shows the job like this; it may be in the past. */
async function seen(id: string, isIt: (job: Job, event: JobEvent) => boolean): Promise<Job> {
  for await (const event of rig.service.watch(id, 0)) {
    if (event.job !== undefined && isIt(event.job, event)) return event.job;
  }
  throw new Error(`job ${id} has ended`);
}

async function paused(id: string): Promise<Job> {
  return await seen(id, ({ pauseReason }) => pauseReason === PauseReason.PAUSE_REASON_NO_SPACE);
}

async function told(id: string, level: JobSpace_Level): Promise<Job> {
  return await seen(id, ({ space }, { kind }) => kind === JobEvent_Kind.KIND_SPACE && space?.level === level);
}

function eventsOf(id: string, name: string) {
  return rig.admin.events.filter(({ event, data }) => event === name && data?.['device'] === id);
}

/** QEMU has found no space for this job itself. */
const hadErrors = (id: string) => eventsOf(id, 'BLOCK_JOB_ERROR').length > 0;

async function endedWell(id: string, disk: number, path: string, format: 'qcow2' = 'qcow2'): Promise<void> {
  await rig.vm.work(disk, 64);
  await rig.vm.pause();
  const job = await rig.service.abort({ job: byId(id) });
  expect(job.state).toBe(Job_State.STATE_CANCELLED);
  expect(await rig.vm.check(disk, { image: path, format })).toMatchObject({ ok: true, text: '' });
  await rig.vm.resume();
  await expectUnharmed(id, disk);
}

/** The guest has seen no error, and was not stopped by the service. */
async function expectUnharmed(id: string, disk: number): Promise<void> {
  await rig.vm.work(disk, 64);
  await rig.vm.pause();
  expectClean(await graphOf(rig.admin), id);
  await expectRight(rig, disk, topOf(rig.vm, disk));
  await rig.vm.resume();
  expect(rig.admin.events.filter(({ event }) => event === 'BLOCK_IO_ERROR')).toEqual([]);
}

describe.skipIf(needs('qemu', 'guest') || !canMount())('the space at a destination', () => {
  beforeAll(async () => {
    rig = await Rig.start({ disks: DISKS, append: `${LOAD} gw${GROWING}.ws=2`, args: DEVICES });
  });
  afterAll(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  /** A test that fails leaves the disk to the next one. */
  afterEach(async () => {
    for (const { id, endTime } of (await rig.service.listJobs()).jobs) {
      if (endTime === undefined) await rig.service.abort({ job: byId(id), force: true });
    }
  });

  test('a start that does not fit is refused with both numbers, and leaves nothing', async () => {
    await using small = await smallFileSystem(rig.folder, 32);
    const path = join(small.path, 'copy');
    const before = await graphOf(rig.admin);
    for (const validateOnly of [true, false]) {
      const refusal = await refused(rig.service.startCopy(requestOf(FULL, path, { validateOnly })));
      const { bavail, bsize } = await statfs(small.path);
      expect(refusal).toMatchObject({
        reason: 'SPACE_LOW',
        metadata: { path, freeBytes: String(bavail * bsize), neededBytes: expect.stringMatching(NUMBER) as string },
      });
      const needed = Number(present(refusal.metadata['neededBytes']));
      expect(needed).toBeGreaterThan(FULL_MIB * MIB);
      expect(needed).toBeLessThan((FULL_MIB + 2) * MIB);
    }
    expect(await readdir(small.path)).toEqual([]);
    expect(await graphOf(rig.admin)).toEqual(before);
    expect(await rig.service.listLeftovers()).toEqual([]);
  });

  test('a start does not fit beside a copy that will still take the space', async () => {
    await using small = await smallFileSystem(rig.folder, 128);
    const id = await start(FULL, join(small.path, 'copy'), SLOWLY);
    await fillUpTo(small.path, (FULL_MIB + 12) * MIB);
    const path = join(small.path, 'other');
    const { metadata, reason } = await refused(rig.service.startCopy(requestOf(GROWING, path)));
    expect(reason).toBe('SPACE_LOW');
    expect(Number(metadata['freeBytes'])).toBeLessThan(16 * MIB);
    const { bavail, bsize } = await statfs(small.path);
    expect(bavail * bsize).toBeGreaterThan(Number(metadata['neededBytes']));
    await rig.service.abort({ job: byId(id) });
    await start(GROWING, path);
  });

  test('a plan tells the estimate, which is what the copy takes', async () => {
    await using small = await smallFileSystem(rig.folder, 128);
    const path = join(small.path, 'copy');
    const { notes } = await rig.service.planOf('startCopy', StartCopyRequest.fromPartial(requestOf(FULL, path)));
    const note = notes.map((text) => /^needs about (\d+) bytes at the destination$/.exec(text)).find(Boolean);
    const needed = Number(present(note?.[1]));
    const id = await start(FULL, path);
    const job = await seen(id, ({ state }) => state === Job_State.STATE_READY);
    expect(job.space).toMatchObject({ level: JobSpace_Level.LEVEL_ENOUGH, overcommit: false });
    const { blocks, bavail, bsize } = await statfs(small.path);
    const taken = (blocks - bavail) * bsize;
    expect(taken).toBeLessThanOrEqual(needed);
    // The overlay hides a part of the image below it.
    expect(taken).toBeGreaterThan(needed - 8 * MIB);
    await endedWell(id, FULL, path);
  });

  test('a destination that fills up pauses the job before QEMU has an error; with room it goes on by itself', async () => {
    await using small = await smallFileSystem(rig.folder, 128);
    const path = join(small.path, 'copy');
    const stops = rig.guestStops();
    const id = await start(FULL, path, SLOWLY);
    const filler = await fillUpTo(small.path, 24 * MIB);
    expect((await told(id, JobSpace_Level.LEVEL_FULL)).space?.freeBytes).toBeLessThanOrEqual(24 * MIB);
    expect(await paused(id)).toMatchObject({ state: Job_State.STATE_RUNNING });
    expect(hadErrors(id)).toBe(false);
    await rig.vm.work(FULL, 64);
    await rig.service.setSpeed(id, 0n);
    await rm(filler);
    await rig.service.until(id, 'STATE_READY');
    expect(hadErrors(id)).toBe(false);
    expect(rig.guestStops()).toBe(stops);
    await endedWell(id, FULL, path);
  });

  test('with overcommit it starts; QEMU finds no space, and with room the job goes on by itself', async () => {
    await using small = await smallFileSystem(rig.folder, 24);
    const path = join(small.path, 'copy');
    const id = await start(FULL, path, { ...SLOWLY, overcommit: true });
    await rig.service.setSpeed(id, 0n);
    expect(await paused(id)).toMatchObject({ space: { overcommit: true } });
    await told(id, JobSpace_Level.LEVEL_FULL);
    await run('mount', ['-o', 'remount,size=128m', small.path]);
    await rig.service.until(id, 'STATE_READY');
    await endedWell(id, FULL, path);
  });

  test('a service that was killed meanwhile lifts its pause when there is room', async () => {
    await using small = await smallFileSystem(rig.folder, 128);
    const path = join(small.path, 'copy');
    const id = await start(FULL, path, SLOWLY);
    const filler = await fillUpTo(small.path, 24 * MIB);
    await paused(id);
    await rig.restart();
    expect((await rig.service.getInfo(id)).pauseReason).toBe(PauseReason.PAUSE_REASON_NO_SPACE);
    await rig.service.setSpeed(id, 0n);
    await rm(filler);
    await rig.service.until(id, 'STATE_READY');
    await endedWell(id, FULL, path);
  });

  test('a job that a client has paused stays paused when there is room', async () => {
    await using small = await smallFileSystem(rig.folder, 128);
    const path = join(small.path, 'copy');
    const id = await start(FULL, path, SLOWLY);
    const filler = await fillUpTo(small.path, 24 * MIB);
    await paused(id);
    await rig.service.pause(id);
    await rm(filler);
    await told(id, JobSpace_Level.LEVEL_ENOUGH);
    const { pauseReason } = await rig.service.getInfo(id);
    expect(pauseReason).not.toBe(PauseReason.PAUSE_REASON_UNSPECIFIED);
    expect(await rig.admin.execute('query-block-jobs')).toMatchObject([{ device: id, paused: true }]);
    await rig.service.setSpeed(id, 0n);
    await rig.service.resume(id);
    await rig.service.until(id, 'STATE_READY');
    await endedWell(id, FULL, path);
  });

  test('a pivot that leaves the guest without room is refused', async () => {
    await using small = await smallFileSystem(rig.folder, 64);
    const path = join(small.path, 'copy');
    const id = await start(GROWING, path);
    await rig.service.until(id, 'STATE_READY');
    const filler = await fillUpTo(small.path, 4 * MIB);
    const refusal = await refused(rig.service.abort({ job: byId(id), pivot: true }));
    expect(refusal).toMatchObject({
      reason: 'SPACE_LOW',
      metadata: {
        path,
        neededBytes: String(16 * MIB),
        freeBytes: expect.stringMatching(NUMBER) as string,
      },
    });
    expect(await rig.service.getInfo(id)).toMatchObject({
      state: Job_State.STATE_READY,
      outcome: { guestWritesTo: topOf(rig.vm, GROWING).path },
    });
    await paused(id);
    await rm(filler);
    const job = await rig.service.abort({ job: byId(id) });
    expect(job.state).toBe(Job_State.STATE_CANCELLED);
    await expectUnharmed(id, GROWING);
  });

  test('a thin block device: paused near its end, and continued when it has grown', async () => {
    const backing = join(rig.folder, 'thin');
    await writeFile(backing, '');
    await truncate(backing, 40 * MIB);
    using device = await LoopDevice.over(backing);
    const options = { reuseExternal: true, ...SLOWLY };
    expect(await refused(rig.service.startCopy(requestOf(FULL, device.path, options)))).toMatchObject({
      reason: 'SPACE_LOW',
      metadata: { freeBytes: String(40 * MIB) },
    });
    const id = await start(FULL, device.path, { ...options, overcommit: true });
    expect(await paused(id)).toMatchObject({ space: { level: JobSpace_Level.LEVEL_FULL } });
    // QEMU told when the copy came near the end of the device.
    expect(rig.admin.events.some(({ event }) => event === 'BLOCK_WRITE_THRESHOLD')).toBe(true);
    expect(hadErrors(id)).toBe(false);
    await rig.service.setSpeed(id, 0n);
    await truncate(backing, 96 * MIB);
    await run('losetup', ['--set-capacity', device.path]);
    await rig.service.until(id, 'STATE_READY');
    expect(hadErrors(id)).toBe(false);
    await endedWell(id, FULL, device.path);
  });
});
