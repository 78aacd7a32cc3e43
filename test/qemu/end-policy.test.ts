/**
 * A copy that does not end is helped by its end policy, with a real guest that writes more than the copy copies: its
 * limit is lifted, it is switched to write mode BLOCKING, its granularity fits the guest, and at its deadline it goes on
 * or the guest is paused for the rest. Each of these copies would otherwise never be READY.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { AtDeadline, EndPolicy, EndStep_Kind, type Job, Job_State, OnReady } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { LOOPBACK, slowExport } from '../support/images/slow-export.ts';
import { needs } from '../support/means.ts';
import { MIB } from '../support/real-qemu/bench-qemu.ts';
import { Rig } from '../support/real-qemu/rig.ts';
import { byId, refused } from '../support/service/caller.ts';

// A verdict takes some seconds, and the machine may be busy.
vi.setConfig({ testTimeout: 300_000 });

/** Slow, so that a busy machine is not slower. */
const LINK_BYTES = 2 * MIB;
/** A guest that writes as fast as it can: more than the copy copies, also on a busy machine. */
const BUSY = 'mode=rand bs=64 rate=100 batch=16';
/** A small disk and a slow link: the rest is always near, and never gone. */
const SMALL = 2;
const SMALL_BYTES = MIB;
const SOON = { seconds: 1n, nanos: 0 };

let rig: Rig;
let last = 0;
/** Whether this QEMU has block-job-change. */
let canSwitch = false;

/** A folder of its own for each copy. */
async function folder(): Promise<string> {
  last += 1;
  const path = join(rig.folder, `copy${last}`);
  await mkdir(path);
  return path;
}

const disk = (number: number) => ({ domain: 'web1', disk: rig.vm.deviceId(number) });

/** Only this disk is written to. */
async function write(number: number, how = BUSY): Promise<void> {
  await rig.vm.command(`set d${3 - number} mode=idle`);
  await rig.vm.command(`set d${number} ${how}`);
}

function fileIn(path: string) {
  return { target: { $case: 'file', value: join(path, 'copy.raw') }, format: 1 } as const;
}

/** The job once it has come so far. */
async function job(id: string, what: string, is: (job: Job) => boolean): Promise<Job> {
  for await (const event of rig.service.watch(id)) {
    const now = present(event.job);
    if (is(now)) return now;
  }
  throw new Error(`${what}: it has ended: ${(await rig.service.getInfo(id)).state}`);
}

const isReady = ({ state }: Job) => state === Job_State.STATE_READY;

const willNotEnd = ({ progress }: Job) => progress?.reason.includes('will not end') ?? false;

const stepsOf = ({ endPolicy }: Job) => present(endPolicy).steps.map(({ kind }) => kind);

describe.skipIf(needs('guest'))('a copy that does not end', () => {
  beforeAll(async () => {
    rig = await Rig.start({
      disks: ['id=1,fmt=raw,size=24M', 'id=2,fmt=raw,size=1M'],
      append: 'gw.mode=idle',
      args: ['--allow-destination', LOOPBACK],
    });
    const commands = await rig.admin.execute<{ name: string }[]>('query-commands');
    canSwitch = commands.some(({ name }) => name === 'block-job-change');
  });
  afterEach(async () => {
    const { jobs } = await rig.service.listJobs();
    for (const { id, endTime } of jobs)
      if (endTime === undefined) await rig.service.abort({ job: byId(id), force: true });
  });
  afterAll(async () => {
    await rig[Symbol.asyncDispose]();
  });

  test('gets a granularity that fits the small writes of its guest, and ends; its plan says so', async () => {
    await write(1, 'mode=rand bs=4 rate=0.3 batch=16');
    await rig.vm.work(1, 400);
    await using link = await slowExport(await folder(), 24 * MIB, LINK_BYTES);
    const usual = await rig.service.startCopy({ disk: disk(1), destination: link.destination });
    const judged = await job(usual.id, 'a verdict', willNotEnd);
    expect(judged.progress?.reason).toContain('try a new copy with a granularity of 4 KiB');
    await rig.service.abort({ job: byId(usual.id), force: true });
    const request = {
      disk: disk(1),
      destination: link.destination,
      endPolicy: EndPolicy.fromPartial({ chooseGranularity: true }),
    };
    const { notes, options } = await rig.service.planOf('startCopy', StartCopyRequest.fromPartial(request));
    expect(options?.granularityBytes).toBe(4096n);
    expect(notes.join('; ')).toContain('chooses granularity_bytes 4096');
    const given = StartCopyRequest.fromPartial({ ...request, granularityBytes: 65_536n });
    expect((await rig.service.planOf('startCopy', given)).options?.granularityBytes).toBe(65_536n);
    const started = await rig.service.startCopy(request);
    expect(started.options?.granularityBytes).toBe(4096n);
    await job(started.id, 'READY', isReady);
    await rig.service.abort({ job: byId(started.id), force: true });
  });

  test('has its limit lifted up to the ceiling, and ends; a limit of a client stays', async () => {
    // More than the limit, and less than a copy without one, also on a busy machine.
    await write(1, 'mode=rand bs=64 rate=6 batch=16');
    const limited = {
      bandwidthBytesPerSecond: BigInt(MIB),
      granularityBytes: 65_536n,
      disk: disk(1),
      endPolicy: EndPolicy.fromPartial({ patience: SOON, bandwidthCeilingBytesPerSecond: BigInt(512 * MIB) }),
    };
    const { id } = await rig.service.startCopy({ ...limited, destination: fileIn(await folder()) });
    const ready = await job(id, 'READY', isReady);
    expect(ready.bandwidthBytesPerSecond).toBe(BigInt(512 * MIB));
    expect(present(ready.endPolicy).steps).toMatchObject([
      { kind: EndStep_Kind.KIND_LIMIT, bandwidthBytesPerSecond: BigInt(512 * MIB) },
    ]);
    await rig.service.abort({ job: byId(id), force: true });
    const other = await rig.service.startCopy({ ...limited, destination: fileIn(await folder()) });
    await rig.service.setSpeed(other.id, BigInt(MIB + 1));
    const judged = await job(other.id, 'a verdict', willNotEnd);
    // Two windows later the step would have been taken.
    const at = Number(judged.progress?.sampleTime?.getTime());
    const later = await job(other.id, 'later', ({ progress }) => Number(progress?.sampleTime?.getTime()) > at + 8000);
    expect(later.bandwidthBytesPerSecond).toBe(BigInt(MIB + 1));
    expect(stepsOf(later)).toEqual([]);
    await rig.service.abort({ job: byId(other.id), force: true });
  });

  test('a QEMU that cannot switch refuses the start, and the plan', async ({ skip }) => {
    if (canSwitch) return skip();
    const endPolicy = EndPolicy.fromPartial({ switchToBlocking: true });
    const request = { disk: disk(1), destination: fileIn(await folder()), endPolicy };
    for (const validateOnly of [false, true])
      expect(await refused(rig.service.startCopy({ ...request, validateOnly }))).toMatchObject({
        reason: 'QEMU_TOO_OLD',
        metadata: { since: '8.2' },
      });
  });

  test('is switched to BLOCKING when its rest is near, and becomes READY', async ({ skip }) => {
    if (!canSwitch) return skip();
    await write(SMALL);
    await using link = await slowExport(await folder(), SMALL_BYTES, LINK_BYTES);
    const { id } = await rig.service.startCopy({
      disk: disk(SMALL),
      destination: link.destination,
      endPolicy: EndPolicy.fromPartial({ patience: SOON, switchToBlocking: true }),
    });
    const ready = await job(id, 'READY', isReady);
    expect(stepsOf(ready)).toEqual([EndStep_Kind.KIND_BLOCKING]);
    // As a copy that was BLOCKING from its start: the guest is held for its cancel.
    const stops = rig.guestStops();
    await rig.service.abort({ job: byId(id), force: true });
    expect(rig.guestStops()).toBeGreaterThan(stops);
  });

  test('goes on at its deadline with HOLD, says so, and ends in a quieter hour of its guest', async () => {
    await write(SMALL);
    await using link = await slowExport(await folder(), SMALL_BYTES, LINK_BYTES);
    const { id } = await rig.service.startCopy({
      disk: disk(SMALL),
      destination: link.destination,
      timeLimit: SOON,
      endPolicy: EndPolicy.fromPartial({ atDeadline: AtDeadline.AT_DEADLINE_HOLD }),
    });
    const held = await job(id, 'HOLD', (now) => stepsOf(now).length > 0);
    expect(stepsOf(held)).toEqual([EndStep_Kind.KIND_HOLD]);
    expect(held.state).toBe(Job_State.STATE_RUNNING);
    await rig.vm.command(`set d${SMALL} mode=idle`);
    expect(stepsOf(await job(id, 'READY', isReady))).toEqual([EndStep_Kind.KIND_HOLD]);
    await rig.service.abort({ job: byId(id), force: true });
  });

  test.each([AtDeadline.AT_DEADLINE_UNSPECIFIED, AtDeadline.AT_DEADLINE_ABORT])(
    'is cancelled at its deadline with ABORT: %s',
    async (atDeadline) => {
      await write(SMALL);
      await using link = await slowExport(await folder(), SMALL_BYTES, LINK_BYTES);
      const { id } = await rig.service.startCopy({
        disk: disk(SMALL),
        destination: link.destination,
        timeLimit: SOON,
        endPolicy: EndPolicy.fromPartial({ atDeadline, patience: SOON }),
      });
      const ended = await job(id, 'its end', ({ endTime }) => endTime !== undefined);
      expect([ended.state, ...stepsOf(ended)]).toEqual([Job_State.STATE_CANCELLED]);
      expect(ended.error?.message).toContain('time limit');
    },
  );

  test('has its guest paused at the deadline for a rest that fits, and finishes', async () => {
    await write(SMALL);
    await using link = await slowExport(await folder(), SMALL_BYTES, LINK_BYTES);
    const stops = rig.guestStops();
    const { id } = await rig.service.startCopy({
      disk: disk(SMALL),
      destination: link.destination,
      onReady: OnReady.ON_READY_FINISH,
      timeLimit: { seconds: 20n, nanos: 0 },
      endPolicy: EndPolicy.fromPartial({
        atDeadline: AtDeadline.AT_DEADLINE_PAUSE_GUEST,
        maxGuestPause: { seconds: 5n, nanos: 0 },
      }),
    });
    const ended = await job(id, 'its end', ({ endTime }) => endTime !== undefined);
    expect([ended.state, ...stepsOf(ended)]).toEqual([Job_State.STATE_COMPLETED, EndStep_Kind.KIND_PAUSE_GUEST]);
    expect(rig.guestStops()).toBe(stops + 1);
    expect(await rig.admin.execute('query-status')).toMatchObject({ status: 'running' });
  });
});
