/**
 * A pull, and a commit of lower images, end in one header that names an image. The program that opens the disk next
 * knows both files only by their names: if one is renamed or replaced while the job runs, the disk is lost.
 */
import { copyFile, rename, rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RebaseFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { errorOf } from '../support/service/caller.ts';

const SLOWLY = 65_536n;

const ACTS: readonly [what: string, act: (path: string) => Promise<void>][] = [
  ['removed', async (path) => await rm(path)],
  ['renamed', async (path) => await rename(path, `${path}.aside`)],
  [
    'replaced by a copy of it',
    async (path) => {
      await copyFile(path, `${path}.copy`);
      await rename(path, `${path}.aside`);
      await rename(`${path}.copy`, path);
    },
  ],
];

function imageAt({ chain }: Machine, at: number): string {
  return present(chain.at(at)).path;
}

async function headerOf(path: string): Promise<string> {
  return (await run('qemu-img', ['info', '-U', path])).stdout;
}

describe.skipIf(needs('qemu'))('while a job runs an image is', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  async function pull({ disk }: Machine, base: string): Promise<Job> {
    return await site.service.rebase({
      disk,
      base,
      flags: [RebaseFlag.REBASE_FLAG_BANDWIDTH_BYTES],
      bandwidth: SLOWLY,
    });
  }

  async function commit({ disk }: Machine, top: string, base: string): Promise<Job> {
    const job = await site.service.commit({ disk, top, base, flags: [], bandwidth: 1n });
    await site.service.setSpeed(job.id, SLOWLY);
    return job;
  }

  /** The chain is unchanged, and the guest has all of it open. */
  async function expectFailed(started: Job, { qemu, top }: Machine, path: string): Promise<void> {
    await site.service.setSpeed(started.id, 0n);
    const job = await site.ended(started);
    expect(errorOf(job)).toMatchObject({ reason: 'DESTINATION_MOVED', metadata: { path } });
    expect(job).toMatchObject({ state: Job_State.STATE_FAILED, outcome: { safeToDelete: [] } });
    const { inserted } = await qemu.admin.block('disk0');
    expect(inserted?.image.filename).toBe(top.path);
  }

  test.each(ACTS)('%s that is the base of a pull: the header still names the same name', async (_what, act) => {
    await using machine = await site.machine();
    const base = imageAt(machine, 0);
    const job = await pull(machine, base);
    await act(base);
    await expectFailed(job, machine, base);
    expect(await headerOf(machine.top.path)).toContain(`backing file: ${imageAt(machine, -2)}`);
  });

  test.each(ACTS)('%s that is pulled into: the file at its name proves nothing', async (_what, act) => {
    await using machine = await site.machine();
    const job = await pull(machine, '');
    await act(machine.top.path);
    await expectFailed(job, machine, machine.top.path);
    expect((await site.service.getInfo(job.id)).outcome?.guestWritesTo).toBe(machine.top.path);
  });

  test.each(ACTS)('%s that is the base of a commit of lower images', async (_what, act) => {
    await using machine = await site.machine();
    const base = imageAt(machine, 0);
    const job = await commit(machine, imageAt(machine, -2), base);
    await act(base);
    await expectFailed(job, machine, base);
    expect(await headerOf(machine.top.path)).toContain(`backing file: ${imageAt(machine, -2)}`);
  });
});
