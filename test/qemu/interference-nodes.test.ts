// The expected result differs between the rows of the table.
/* oxlint-disable vitest/no-conditional-expect */
/** Actions of others on the nodes of a copy and of its disk: snapshots, blockdev-del, nodes of their own on top. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DestinationContent, Job_State } from '../../generated/blockjob/v1/job.ts';
import { expectClean, graphOf } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { type Act, metCopy, snapshotOf } from '../support/real-qemu/met-copy.ts';
import { whileStopped } from '../support/real-qemu/while-stopped.ts';
import { byId } from '../support/service/caller.ts';

let site: Site;

describe.skipIf(needs('qemu'))('the disk of a copy', () => {
  beforeAll(async () => {
    site = await Site.open();
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test.each(['RUNNING', 'READY'] as const)('%s: QEMU refuses harmful commands, and the job continues', async (at) => {
    // Each drain of its disk lets a copy continue for a bit, whatever its speed: such a small copy could become READY.
    await using it = await metCopy(site, at, { sizeBytes: 64 << 20 });
    const { machine, job, path } = it;
    const { id } = job;
    const top = 'disk0-2';
    const before = await site.service.getInfo(id);
    const acts: readonly Act[] = [
      ['job-dismiss', { id }],
      ['job-finalize', { id }],
      ...(at === 'RUNNING' ? [['job-complete', { id }] as const] : []),
      ...[id, `${id}-file`, `${id}-filter`, top, 'disk0-1'].map((node): Act => ['blockdev-del', { 'node-name': node }]),
      ...[id, `${id}-filter`, top].map((node) => snapshotOf(node, machine.dir)),
      ['block_resize', { 'node-name': top, size: 8 << 20 }],
      ['block-stream', { 'job-id': 'theirs', device: top }],
      ['block-commit', { 'job-id': 'theirs', device: top }],
    ];
    for (const act of acts) await expect(it.execute(act)).rejects.toThrow(act[0]);
    expect((await site.service.getInfo(id)).revision).toBe(before.revision);
    await site.service.setSpeed(id, 0n);
    await site.service.until(id, 'STATE_READY');
    await machine.guest.write(2);
    const ended = await site.service.abort({ job: byId(id), pivot: true });
    expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { guestWritesTo: path } });
    expect(await site.service.listLeftovers(machine.disk.domain)).toEqual([]);
    await machine.qemu[Symbol.asyncDispose]();
    await machine.guest.expectIn(path, 'qcow2');
  });

  test.each([
    ['job-complete', 'COMPLETED', 'COMPLETE'],
    ['block-job-cancel', 'CANCELLED', 'COMPLETE'],
    ['job-cancel', 'CANCELLED', 'STALE'],
  ] as const)(
    'gets a snapshot when another client has ended the copy by %s: %s, %s',
    async (command, state, content) => {
      await using it = await metCopy(site, 'READY');
      const { machine, job, path } = it;
      const snapshot = join(machine.dir, 'snapshot');
      const pivoted = command === 'job-complete';
      await whileStopped(site.service.pid, async () => {
        await it.execute([command, command.startsWith('block-job') ? { device: job.id } : { id: job.id }]);
        await it.concluded();
        await it.execute(snapshotOf(pivoted ? job.id : 'disk0-2', machine.dir));
      });
      const ended = await it.ended();
      expect(ended).toMatchObject({
        state: Job_State[`STATE_${state}`],
        outcome: {
          guestWritesTo: snapshot,
          nextStartPath: snapshot,
          destinationContent: DestinationContent[`DESTINATION_CONTENT_${content}`],
          safeToDelete: pivoted ? [{ path: machine.top.path }] : content === 'STALE' ? [{ path }] : [],
        },
      });
      expect(ended.outcome?.evidence.at(-1)?.text).toBe(`device disk0 was on ${snapshot}`);
      // Below the snapshot the copy is the guest's.
      expectClean(await graphOf(machine.qemu.admin), job.id, pivoted ? [job.id, `${job.id}-file`] : []);
      const ids = [`node:${job.id}`, `file:${job.id}`];
      await site.service.reclaim(ids, true);
      expect(existsSync(path)).toBe(content !== 'STALE');
      if (!pivoted && content === 'COMPLETE') await machine.guest.expectIn(path, 'qcow2');
      await machine.guest.write(2);
      await machine.qemu[Symbol.asyncDispose]();
      await machine.guest.expectIn(snapshot, 'qcow2');
    },
  );

  test('is released, and another client closes the nodes of the copy before the service does', async () => {
    await using it = await metCopy(site, 'RUNNING');
    const { machine, job, path } = it;
    await whileStopped(site.service.pid, async () => {
      await it.execute(['job-cancel', { id: job.id }]);
      await it.concluded();
      await it.execute(['blockdev-del', { 'node-name': job.id }], ['blockdev-del', { 'node-name': `${job.id}-file` }]);
    });
    expect(await it.ended()).toMatchObject({
      state: Job_State.STATE_CANCELLED,
      outcome: { destinationRemoved: true, guestWritesTo: machine.top.path },
    });
    expect(existsSync(path)).toBe(false);
    expect(await site.service.listLeftovers(machine.disk.domain)).toEqual([]);
  });

  test('is released, and another client uses the copy then: it stays, and is listed as long', async () => {
    await using it = await metCopy(site, 'READY');
    const { machine, job, path } = it;
    const { service } = site;
    await whileStopped(service.pid, async () => {
      await it.execute(['job-cancel', { id: job.id }]);
      await it.concluded();
      await it.execute(
        ['object-add', { 'qom-type': 'throttle-group', id: 'g' }],
        ['blockdev-add', { driver: 'throttle', 'node-name': 'theirs', file: job.id, 'throttle-group': 'g' }],
      );
    });
    expect(await it.ended()).toMatchObject({
      state: Job_State.STATE_CANCELLED,
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_STALE, safeToDelete: [] },
    });
    const left = await service.listLeftovers(machine.disk.domain);
    const blockedBy = Object.fromEntries(left.map((one) => [one.id, one.blockedBy]));
    expect(blockedBy).toEqual({
      [`file:${job.id}`]: expect.stringContaining(`of domain ${machine.disk.domain}`) as string,
      [`node:${job.id}`]: 'node theirs uses it',
      [`node:${job.id}-file`]: '',
    });
    const ids = Object.keys(blockedBy);
    const kept = await service.reclaim(ids, true);
    expect(kept.filter(({ reclaimed }) => reclaimed)).toEqual([]);
    await it.execute(['blockdev-del', { 'node-name': 'theirs' }]);
    await service.reclaim(
      ids.filter((id) => id.startsWith('node')),
      true,
    );
    expect(await service.reclaim(ids, true)).toMatchObject(ids.map(() => ({ reclaimed: true })));
    expect(existsSync(path)).toBe(false);
    expectClean(await graphOf(machine.qemu.admin), job.id);
  });
});
