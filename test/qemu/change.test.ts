/** SetSpeed, Pause and Resume on a real QEMU, by callers and by other clients of QEMU. */
import { mkdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Job_State, JobEvent_Kind, PauseReason } from '../../generated/blockjob/v1/job.ts';
import { needs } from '../support/means.ts';
import { makeChain, type Qemu, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1024 * 1024;
const SLOW = BigInt(MIB);

interface Bench extends AsyncDisposable {
  readonly dir: string;
  readonly qemu: Qemu;
  readonly service: Service;
  copy(bandwidth: bigint, folder?: string): Promise<string>;
}

/** A QEMU with one disk of 16 MiB, and a service that knows it. */
async function bench(): Promise<Bench> {
  await using resources = new AsyncDisposableStack();
  const dir = resources.use(await testDir()).path;
  const chain = await makeChain(dir, { formats: ['qcow2', 'qcow2'], sizeBytes: 16 * MIB });
  const qemu = resources.use(
    await startQemu({ style: 'blockdev', name: 'vm', disks: [{ id: 'vd0', bus: 'virtio-blk', chain }] }),
  );
  const service = resources.use(await Service.start({ dir, qmp: { vm: qemu.qmpPath }, allow: [dir] }));
  await service.domainUp('vm');
  const kept = resources.move();
  return {
    dir,
    qemu,
    service,
    copy: async (bandwidth, folder = dir) => {
      const job = await service.startCopy({
        disk: { domain: 'vm', disk: 'vd0' },
        destination: { target: { $case: 'file', value: join(folder, 'copy.qcow2') } },
        bandwidthBytesPerSecond: bandwidth,
        overcommit: true,
      });
      return job.id;
    },
    [Symbol.asyncDispose]: async () => await kept.disposeAsync(),
  };
}

interface BlockJob {
  readonly device: string;
  readonly speed: number;
  readonly paused: boolean;
}

async function inQemu(qemu: Qemu, job: string): Promise<BlockJob | undefined> {
  return (await qemu.admin.execute<BlockJob[]>('query-block-jobs')).find(({ device }) => device === job);
}

describe.skipIf(needs('qemu'))('a job that goes on', { timeout: 60_000 }, () => {
  test('takes a new limit at once, in every phase, and tells watchers', async () => {
    await using it = await bench();
    const job = await it.copy(SLOW);
    const faster = await it.service.setSpeed(job, 2n * SLOW);
    expect(faster.bandwidthBytesPerSecond).toBe(2n * SLOW);
    expect(await inQemu(it.qemu, job)).toMatchObject({ speed: 2 * MIB });
    expect((await it.service.setSpeed(job, 0n)).bandwidthBytesPerSecond).toBe(0n);
    await it.service.until(job, 'STATE_READY');
    const slower = await it.service.setSpeed(job, 7n);
    expect(slower.bandwidthBytesPerSecond).toBe(7n);
    expect(await inQemu(it.qemu, job)).toMatchObject({ speed: 7 });
    expect((await it.service.setSpeed(job, 7n)).revision).toBe(slower.revision);
    await it.service.setSpeed(job, 0n);
    await it.service.abort({ job: byId(job), pivot: true });
    const limits: bigint[] = [];
    for await (const { kind, job: then } of it.service.watch(job, 0))
      if (kind === JobEvent_Kind.KIND_SPEED) limits.push(then?.bandwidthBytesPerSecond ?? -1n);
    expect(limits).toEqual([2n * SLOW, 0n, 7n, 0n]);
  });

  test('takes every limit up to 2^63-1 bytes a second, and none beyond: never wrapped, never silently 0', async () => {
    await using it = await bench();
    const job = await it.copy(SLOW);
    const most = await it.service.setSpeed(job, 2n ** 63n - 1n);
    expect(most.bandwidthBytesPerSecond).toBeGreaterThanOrEqual(2n ** 53n - 1n);
    const before = await inQemu(it.qemu, job);
    expect(before?.speed ?? 1).toBeGreaterThan(0);
    expect(await refused(it.service.setSpeed(job, -1n))).toMatchObject({
      reason: 'BANDWIDTH_OUT_OF_RANGE',
      fields: ['bandwidth_bytes_per_second'],
    });
    expect((await inQemu(it.qemu, job))?.speed).toBe(before?.speed);
  });

  test('is paused and resumed, and a repeated request changes nothing', async () => {
    await using it = await bench();
    const job = await it.copy(SLOW);
    const paused = await it.service.pause(job);
    expect(paused).toMatchObject({ state: Job_State.STATE_RUNNING, pauseReason: PauseReason.PAUSE_REASON_USER });
    expect(await inQemu(it.qemu, job)).toMatchObject({ paused: true });
    expect((await it.service.pause(job)).revision).toBe(paused.revision);
    const resumed = await it.service.resume(job);
    expect(resumed.pauseReason).toBe(PauseReason.PAUSE_REASON_UNSPECIFIED);
    expect((await it.service.resume(job)).revision).toBe(resumed.revision);
    await it.service.setSpeed(job, 0n);
    await it.service.until(job, 'STATE_READY');
  });

  test('paused in READY is resumed by a pivot, and by an end that keeps the copy', async () => {
    for (const pivot of [true, false]) {
      await using it = await bench();
      const job = await it.copy(0n);
      await it.service.until(job, 'STATE_READY');
      await it.service.pause(job);
      expect(await inQemu(it.qemu, job)).toMatchObject({ paused: true });
      const done = await it.service.abort({ job: byId(job), pivot });
      expect(done.state).toBe(pivot ? Job_State.STATE_COMPLETED : Job_State.STATE_CANCELLED);
      expect(done.outcome?.destinationContent).toBe(3);
      expect(await it.qemu.admin.execute('query-jobs')).toEqual([]);
    }
  });

  test('shows the change when another client pauses it, resumes it and sets its limit', async () => {
    await using it = await bench();
    const job = await it.copy(SLOW);
    const seen = async (what: (event: { pause: number; limit: bigint }) => boolean) => {
      for await (const { job: now } of it.service.watch(job))
        if (now !== undefined && what({ pause: now.pauseReason, limit: now.bandwidthBytesPerSecond })) return;
      throw new Error('the job has ended');
    };
    await it.qemu.admin.execute('job-pause', { id: job });
    await seen(({ pause }) => pause === PauseReason.PAUSE_REASON_USER);
    await it.qemu.admin.execute('job-resume', { id: job });
    await seen(({ pause }) => pause === PauseReason.PAUSE_REASON_UNSPECIFIED);
    await it.qemu.admin.execute('block-job-set-speed', { device: job, speed: MIB / 2 });
    // QEMU sends no event for it: the next look finds it.
    await seen(({ limit }) => limit === SLOW / 2n);
    await it.service.pause(job);
    expect((await it.service.getInfo(job)).bandwidthBytesPerSecond).toBe(SLOW / 2n);
  });

  test.skipIf(process.getuid?.() !== 0)('that waits for space goes on when there is some', async () => {
    await using it = await bench();
    const small = join(it.dir, 'small');
    await mkdir(small);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', small]);
    await using _mounted = { [Symbol.asyncDispose]: async () => void (await run('umount', ['-l', small])) };
    const job = await it.copy(0n, small);
    const until = async (reason: PauseReason) => {
      for await (const { job: now } of it.service.watch(job)) if (now?.pauseReason === reason) return;
    };
    await until(PauseReason.PAUSE_REASON_NO_SPACE);
    await it.service.resume(job);
    await until(PauseReason.PAUSE_REASON_NO_SPACE);
    await run('mount', ['-o', 'remount,size=64m', small]);
    expect((await statfs(small)).blocks).toBeGreaterThan(1000);
    await it.service.resume(job);
    await it.service.until(job, 'STATE_READY');
    const done = await it.service.abort({ job: byId(job), pivot: true });
    expect(done.state).toBe(Job_State.STATE_COMPLETED);
  });

  test('that has ended refuses all of these', async () => {
    await using it = await bench();
    const job = await it.copy(SLOW);
    await it.service.abort({ job: byId(job) });
    const late = [it.service.pause(job), it.service.resume(job), it.service.setSpeed(job, 1n)];
    for (const refusal of await Promise.all(late.map(refused)))
      expect(refusal).toMatchObject({ reason: 'JOB_ENDED', metadata: { state: 'CANCELLED' } });
  });
});
