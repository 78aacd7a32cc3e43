/** Internal snapshots that another client takes while a job runs: no caller could accept their loss at the start. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag, RebaseFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { byId, errorOf } from '../support/service/caller.ts';

const { COMMIT_FLAG_ACTIVE, COMMIT_FLAG_DELETE } = CommitFlag;

describe.skipIf(needs('qemu'))('a snapshot that is taken meanwhile', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  async function pivoted({ id }: { readonly id: string }) {
    const job = await site.service.abort({ job: byId(id), pivot: true });
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    return present((await site.service.getInfo(id)).outcome);
  }

  test('of a disk that is copied: its image is not called safe to delete', async () => {
    await using machine = await site.machine();
    const target = { $case: 'file', value: join(machine.dir, 'copy') } as const;
    const job = await site.service.startCopy({ disk: machine.disk, destination: { target } });
    await site.service.until(job.id, 'STATE_READY');
    await takeSnapshot(machine);
    expect((await pivoted(job)).safeToDelete).toEqual([]);
  });

  test('of a disk that is committed: no image of the snapshot is deleted', async () => {
    await using machine = await site.machine();
    const flags = [COMMIT_FLAG_ACTIVE, COMMIT_FLAG_DELETE];
    const job = await site.service.commit({ disk: machine.disk, flags });
    await site.service.until(job.id, 'STATE_READY');
    await takeSnapshot(machine);
    expect((await pivoted(job)).safeToDelete).toEqual([]);
    expect(await snapshotsIn(machine.top.path)).toContain('before-update');
    // The image below is a part of the contents of the snapshot.
    expect(existsSync(present(machine.chain[1]).path)).toBe(true);
  });

  test('of a disk that is filled by a pull: the old images stay below it', async () => {
    await using machine = await site.machine();
    const started = await site.service.rebase({
      disk: machine.disk,
      flags: [RebaseFlag.REBASE_FLAG_BANDWIDTH_BYTES],
      bandwidth: 65_536n,
    });
    await takeSnapshot(machine);
    await site.service.setSpeed(started.id, 0n);
    const job = await site.ended(started);
    expect(errorOf(job)).toMatchObject({
      reason: 'LOSS_NOT_ACCEPTED',
      metadata: { path: machine.top.path, accept: 'LOSES_INTERNAL_SNAPSHOTS' },
    });
    expect(job.state).toBe(Job_State.STATE_FAILED);
    const { stdout } = await run('qemu-img', ['info', '-U', machine.top.path]);
    expect(stdout).toContain(`backing file: ${present(machine.chain[1]).path}`);
  });
});

async function takeSnapshot({ qemu, top }: Machine): Promise<void> {
  await qemu.admin.execute('human-monitor-command', { 'command-line': 'savevm before-update' });
  expect(await snapshotsIn(top.path)).toContain('before-update');
}

/** The snapshots of that image alone, whichever program has its chain open. */
async function snapshotsIn(path: string): Promise<string> {
  const image = { driver: 'qcow2', backing: null, file: { driver: 'file', filename: path, locking: 'off' } };
  return (await run('qemu-img', ['snapshot', '-l', `json:${JSON.stringify(image)}`])).stdout;
}
