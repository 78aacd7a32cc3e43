/** A guest that writes more than a copy over a slow link can copy, and its limit in QEMU. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type Job, Job_State, type OnReady } from '../../../generated/blockjob/v1/job.ts';
import { fromMs } from '../../../src/client/durations.ts';
import { eventually, present } from '../checks.ts';
import { LOOPBACK, slowExport } from '../images/slow-export.ts';
import { MIB } from './bench-qemu.ts';
import { testDir } from './qemu.ts';
import { Rig } from './rig.ts';

const SIZE_MIB = 12;
/** Slow, so that the guest writes more also on a busy machine. */
const LINK_BYTES = MIB;
const LOAD = 'gw.mode=rand gw.bs=64 gw.batch=32 gw.rate=8';
const DISK = 1;
/** The least that a request can name: a link may be much slower on a busy machine. */
export const FLOOR_BYTES = 64 * 1024;

export async function startRig(): Promise<Rig> {
  return await Rig.start({
    disks: [`id=${DISK},fmt=raw,size=${SIZE_MIB}M`],
    append: LOAD,
    args: ['--allow-destination', LOOPBACK],
    complaints: /destination|hung|broken/,
  });
}

export async function limitsIn({ admin, vm }: Rig) {
  return present((await admin.block(vm.deviceId(DISK))).inserted);
}

/** Nothing limits the guest, and it goes on. */
export async function expectFree(rig: Rig): Promise<void> {
  const now = await limitsIn(rig);
  expect(now).toMatchObject({ bps: 0, bps_wr: 0, iops: 0 });
  expect(now.group).toBeUndefined();
  await rig.vm.work(DISK, 32);
}

/** A destination behind its link. */
export async function slowPlace() {
  await using held = new AsyncDisposableStack();
  const { path } = held.use(await testDir('bj-slow-'));
  const { destination } = held.use(await slowExport(path, SIZE_MIB * MIB, LINK_BYTES));
  const kept = held.move();
  return { destination, [Symbol.asyncDispose]: async () => await kept.disposeAsync() };
}

export interface SlowingCopy {
  readonly onReady?: OnReady;
  readonly maxMs?: number;
  readonly timeLimitMs?: number;
  readonly floorBytes?: number;
}

/** A copy that may slow its guest down. */
export async function slowingCopy(
  { service, vm }: Rig,
  { destination }: Awaited<ReturnType<typeof slowPlace>>,
  { onReady = 0, maxMs = 600_000, timeLimitMs, floorBytes = FLOOR_BYTES }: SlowingCopy = {},
): Promise<string> {
  const guestThrottle = { floorBytesPerSecond: BigInt(floorBytes), maxDuration: fromMs(maxMs) };
  const { id } = await service.startCopy({
    disk: { domain: 'web1', disk: vm.deviceId(DISK) },
    destination,
    onReady,
    timeLimit: timeLimitMs === undefined ? undefined : fromMs(timeLimitMs),
    endPolicy: { patience: fromMs(1000), guestThrottle },
  });
  return id;
}

/** The journal of a job. */
async function historyOf({ folder }: Rig, id: string): Promise<readonly string[]> {
  return (await readFile(join(folder, 'state', 'jobs', `${id}.jsonl`), 'utf8')).split('\n');
}

/** Resolves when the guest is slowed down, and QEMU has the limit. */
export async function slowedDown(rig: Rig, id: string): Promise<Job> {
  const isSlow = async () => {
    const now = await rig.service.getInfo(id);
    if (now.guestThrottle !== undefined) return (await limitsIn(rig)).group === id ? now : undefined;
    if (now.state !== Job_State.STATE_RUNNING) throw new Error(`${now.state}: the guest writes too little`);
    return undefined;
  };
  const job = await eventually('the guest is slowed down', isSlow, 120_000).catch(async (error: unknown) => {
    const { progress } = await rig.service.getInfo(id);
    throw new Error([progress?.reason ?? '', ...(await historyOf(rig, id))].join('\n'), { cause: error });
  });
  const { group, limitBytesPerSecond } = present(job.guestThrottle);
  expect(group).toBe(id);
  expect(limitBytesPerSecond).toBeGreaterThanOrEqual(BigInt(FLOOR_BYTES));
  return job;
}
