/**
 * The copy is in a file that is known only by its name: if the name is removed, the next start of the VM has no disk.
 */
import { link, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, type Job, Job_State, OnReady } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { byId, errorOf, refused } from '../support/service/caller.ts';

const MOVED = 'DESTINATION_MOVED';

const ACTS: readonly [what: string, act: (path: string) => Promise<void>][] = [
  ['removed', async (path) => await rm(path)],
  ['renamed', async (path) => await rename(path, `${path}.aside`)],
  [
    'replaced by another',
    async (path) => {
      await rename(path, `${path}.aside`);
      await writeFile(path, 'a file of somebody else');
    },
  ],
];

describe.skipIf(needs('qemu'))('a destination that is', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  async function readyCopy(
    { disk, dir }: Machine,
    onReady = OnReady.ON_READY_HOLD,
  ): Promise<{ job: Job; path: string }> {
    const path = join(dir, 'copy');
    const job = await site.service.startCopy({
      disk,
      destination: { target: { $case: 'file', value: path } },
      onReady,
    });
    if (onReady === OnReady.ON_READY_HOLD) await site.service.until(job.id, 'STATE_READY');
    return { job, path };
  }

  const pivot = async ({ id }: Job) => await site.service.abort({ job: byId(id), pivot: true });

  test.each(ACTS)('%s while READY is not a disk to pivot to; with its name back it is', async (_what, act) => {
    await using machine = await site.machine();
    const { job, path } = await readyCopy(machine);
    await link(path, `${path}.kept`);
    await act(path);
    expect(await refused(pivot(job))).toMatchObject({ reason: MOVED, metadata: { path } });
    expect((await site.service.getInfo(job.id)).state).toBe(Job_State.STATE_READY);
    await rename(`${path}.kept`, path);
    expect(await pivot(job)).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
  });

  test('removed before a copy pivots by itself: the guest stays, and the copy has failed', async () => {
    await using machine = await site.machine();
    const path = join(machine.dir, 'copy');
    const { id } = await site.service.startCopy({
      disk: machine.disk,
      destination: { target: { $case: 'file', value: path } },
      bandwidthBytesPerSecond: 65_536n,
      onReady: OnReady.ON_READY_PIVOT,
    });
    await rm(path);
    await site.service.setSpeed(id, 0n);
    const job = await site.ended({ id } as Job);
    expect(errorOf(job)).toMatchObject({ reason: MOVED });
    expect(job).toMatchObject({
      state: Job_State.STATE_FAILED,
      outcome: { guestWritesTo: machine.top.path, destinationContent: DestinationContent.DESTINATION_CONTENT_STALE },
    });
    const { inserted } = await machine.qemu.admin.block('disk0');
    expect(inserted?.image.filename).toBe(machine.top.path);
  });

  test.each(['FINISH', 'an abort'])('removed before %s is not a complete copy', async (how) => {
    await using machine = await site.machine();
    const path = join(machine.dir, 'copy');
    const { id } = await site.service.startCopy({
      disk: machine.disk,
      destination: { target: { $case: 'file', value: path } },
      ...(how === 'FINISH' ? { bandwidthBytesPerSecond: 65_536n, onReady: OnReady.ON_READY_FINISH } : {}),
    });
    if (how !== 'FINISH') await site.service.until(id, 'STATE_READY');
    await rm(path);
    if (how === 'FINISH') await site.service.setSpeed(id, 0n);
    else await site.service.abort({ job: byId(id) });
    const job = await site.ended({ id } as Job);
    expect(errorOf(job)).toMatchObject({ reason: MOVED });
    expect(job).toMatchObject({
      state: Job_State.STATE_UNRESOLVED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_UNKNOWN, safeToDelete: [] },
    });
  });

  test('over an image that was renamed before the end is not a complete copy', async () => {
    await using machine = await site.machine();
    const base = present(machine.chain[0]).path;
    const target = { $case: 'file', value: join(machine.dir, 'copy') } as const;
    const { id } = await site.service.startCopy({ disk: machine.disk, destination: { target }, shallow: true });
    await site.service.until(id, 'STATE_READY');
    await rename(base, `${base}.aside`);
    await site.service.abort({ job: byId(id) });
    const job = await site.ended({ id } as Job);
    expect(errorOf(job)).toMatchObject({ reason: MOVED, metadata: { path: base } });
    expect(job).toMatchObject({
      state: Job_State.STATE_UNRESOLVED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_UNKNOWN, safeToDelete: [] },
    });
    await rename(`${base}.aside`, base);
  });

  test('over an image that was renamed: its header names a file that nobody finds', async () => {
    await using machine = await site.machine();
    const below = present(machine.chain.at(-2)).path;
    const target = { $case: 'file', value: join(machine.dir, 'copy') } as const;
    const job = await site.service.startCopy({ disk: machine.disk, destination: { target }, shallow: true });
    await site.service.until(job.id, 'STATE_READY');
    await rename(below, `${below}.aside`);
    expect(await refused(pivot(job))).toMatchObject({ reason: MOVED, metadata: { path: below } });
    await rename(`${below}.aside`, below);
    expect(await pivot(job)).toMatchObject({ state: Job_State.STATE_COMPLETED });
  });

  test('removed, and the base of an active commit: the guest stays on the overlay', async () => {
    await using machine = await site.machine();
    const { id } = await site.service.commit({ disk: machine.disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] });
    await site.service.until(id, 'STATE_READY');
    const base = present(machine.chain[0]).path;
    await rename(base, `${base}.aside`);
    expect(await refused(pivot({ id } as Job))).toMatchObject({ reason: MOVED, metadata: { path: base } });
    await rename(`${base}.aside`, base);
    expect(await pivot({ id } as Job)).toMatchObject({ state: Job_State.STATE_COMPLETED });
  });
});
