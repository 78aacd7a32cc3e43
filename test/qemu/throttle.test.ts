/**
 * A guest that writes too much for its copy is slowed down, so that the copy ends. No limit is left in QEMU after any
 * ending, and the guest is unharmed.
 */
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Job, Job_State, JobEvent_Kind, OnReady } from '../../generated/blockjob/v1/job.ts';
import { eventually } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { MIB } from '../support/real-qemu/bench-qemu.ts';
import { expectRight, type Rig } from '../support/real-qemu/rig.ts';
import {
  expectFree,
  limitsIn,
  slowedDown,
  slowingCopy,
  slowPlace,
  startRig,
} from '../support/real-qemu/slowed-guest.ts';
import { byId, refused } from '../support/service/caller.ts';

let rig: Rig;

beforeAll(async () => {
  if (!needs('guest')) rig = await startRig();
}, 180_000);
afterAll(async () => await rig?.[Symbol.asyncDispose]());
// A test that has failed leaves its copy.
afterEach(async () => {
  const { jobs } = await rig.service.listJobs();
  for (const { id, endTime } of jobs)
    if (endTime === undefined) await rig.service.abort({ job: byId(id), force: true });
});

async function endOf(id: string): Promise<Job> {
  for await (const _event of rig.service.watch(id));
  return await rig.service.getInfo(id);
}

describe.skipIf(needs('guest'))('a copy that would never end', { timeout: 300_000 }, () => {
  test('ends, because its guest is slowed down; after the pivot nothing limits the guest', async () => {
    await using to = await slowPlace();
    const id = await slowingCopy(rig, to, { onReady: OnReady.ON_READY_PIVOT });
    const { guestThrottle } = await slowedDown(rig, id);
    expect((await limitsIn(rig)).bps_wr).toBeLessThanOrEqual(Number(guestThrottle?.limitBytesPerSecond));
    const ended = await endOf(id);
    expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED });
    expect(ended.guestThrottle).toBeUndefined();
    await expectFree(rig);
    // To a file, for the other tests.
    const path = join(rig.folder, 'back.raw');
    const { id: back } = await rig.service.startCopy({
      disk: { domain: 'web1', disk: rig.vm.deviceId(1) },
      destination: { target: { $case: 'file', value: path }, format: 1 },
      onReady: OnReady.ON_READY_PIVOT,
    });
    expect(await endOf(back)).toMatchObject({ state: Job_State.STATE_COMPLETED });
    await rig.vm.pause();
    await expectRight(rig, 1, { path, format: 'raw' });
    await rig.vm.resume();
  });

  test('is aborted, and then nothing limits the guest', async () => {
    await using to = await slowPlace();
    const id = await slowingCopy(rig, to);
    await slowedDown(rig, id);
    await rig.service.abort({ job: byId(id), force: true });
    expect((await rig.service.getInfo(id)).state).toBe(Job_State.STATE_CANCELLED);
    await expectFree(rig);
  });

  test('fails with its destination, and then nothing limits the guest', async () => {
    const to = await slowPlace();
    const id = await slowingCopy(rig, to);
    await slowedDown(rig, id);
    await to[Symbol.asyncDispose]();
    expect((await endOf(id)).state).toBe(Job_State.STATE_FAILED);
    await expectFree(rig);
  });

  test('ends by its time limit, and then nothing limits the guest', async () => {
    await using to = await slowPlace();
    const id = await slowingCopy(rig, to, { timeLimitMs: 60_000, onReady: OnReady.ON_READY_FINISH });
    await slowedDown(rig, id);
    // It must not end before.
    await rig.service.pause(id);
    const { state, error } = await endOf(id);
    expect(state).toBe(Job_State.STATE_CANCELLED);
    expect(error?.message).toContain('time limit');
    await expectFree(rig);
  });

  test('is found by the next service after a crash, and its guest is let go with it', async () => {
    await using to = await slowPlace();
    const id = await slowingCopy(rig, to);
    await slowedDown(rig, id);
    await rig.restart();
    expect((await limitsIn(rig)).group).toBe(id);
    expect((await rig.service.getInfo(id)).guestThrottle?.group).toBe(id);
    await rig.service.abort({ job: byId(id), force: true });
    await expectFree(rig);
  });

  test('lets its guest go if the journal is lost: the group in QEMU has the name of the job', async () => {
    await using to = await slowPlace();
    const id = await slowingCopy(rig, to);
    await slowedDown(rig, id);
    await unlink(join(rig.folder, 'state', 'jobs', `${id}.jsonl`));
    await rig.restart();
    await eventually('the guest is let go', async () => ((await limitsIn(rig)).bps_wr === 1e15 ? true : undefined));
    expect((await limitsIn(rig)).group).toBe(id);
    await rig.service.abort({ job: byId(id), force: true });
    await expectFree(rig);
  });

  test('slows its guest down no longer than it may, and the copy goes on', async () => {
    await using to = await slowPlace();
    const id = await slowingCopy(rig, to, { maxMs: 2000 });
    await slowedDown(rig, id);
    await eventually('the time is over', async () => {
      return (await rig.service.getInfo(id)).guestThrottle === undefined ? true : undefined;
    });
    expect((await limitsIn(rig)).bps_wr).toBe(1e15);
    expect((await rig.service.getInfo(id)).endTime).toBeUndefined();
    await rig.service.abort({ job: byId(id), force: true });
    await expectFree(rig);
  });

  test('does not slow its guest down if the floor is too high, and says so once', async () => {
    await using to = await slowPlace();
    const id = await slowingCopy(rig, to, { floorBytes: 100 * MIB });
    let told = '';
    for await (const { kind, detail } of rig.service.watch(id)) {
      if (kind === JobEvent_Kind.KIND_STATE && detail.startsWith('the guest is not slowed down')) told = detail;
      if (told !== '') break;
    }
    expect(told).toContain('at the floor of 104857600 bytes per second');
    await expectFree(rig);
    await rig.service.abort({ job: byId(id), force: true });
  });

  test('is refused if another client limits the disk', async () => {
    const { qdev } = await rig.admin.block(rig.vm.deviceId(1));
    const none = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };
    await rig.admin.execute('block_set_io_throttle', { id: qdev, ...none, iops: 5000, group: 'theirs' });
    await using to = await slowPlace();
    expect(await refused(slowingCopy(rig, to))).toMatchObject({ reason: 'GUEST_LIMIT_SHARED' });
    expect(await limitsIn(rig)).toMatchObject({ iops: 5000, group: 'theirs' });
    await rig.admin.execute('block_set_io_throttle', { id: qdev, ...none });
  });
});
