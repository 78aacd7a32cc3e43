/** A pull into an image with extended L2 entries: some QEMUs abort then, and the guest with them. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { startWith } from '../support/real-qemu/any-disk.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { isRunning, run, testDir } from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
});

test.each(['blockdev', 'drive'] as const)('is refused, or done, and QEMU continues: style %s', async (style) => {
  await using dir = await testDir();
  const [base, top] = [join(dir.path, 'base'), join(dir.path, 'top')];
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, String(MIB)]);
  await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 1M', base]);
  const packed = ['-o', 'extended_l2=on', '-F', 'qcow2', '-b', base];
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...packed, top]);
  // The first part of a cluster, and not the others.
  await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 8 64k 512', top]);
  const name = `m${dir.path.slice(-6)}`;
  await using qemu = await startWith(site, style, {
    name,
    nodes: [
      { driver: 'qcow2', 'node-name': 'base', file: { driver: 'file', filename: base }, 'read-only': true },
      { driver: 'qcow2', file: { driver: 'file', filename: top }, backing: 'base' },
    ],
    drive: `file=${top},format=qcow2`,
  });
  const commands = await qemu.admin.execute<{ name: string }[]>('query-commands');
  const pull = site.service.rebase({ disk: { domain: name, disk: 'disk0' } });
  const can = commands.some((one) => one.name === 'block-job-change');
  const end = can ? (await site.ended(await pull)).state : (await refused(pull)).metadata['kind'];
  expect(end).toBe(can ? Job_State.STATE_COMPLETED : 'SUBCLUSTERS');
  await qemu.admin.hmpQemuIo('/machine/peripheral/disk0/virtio-backend', 'read -P 8 64k 512');
  await qemu.admin.hmpQemuIo('/machine/peripheral/disk0/virtio-backend', 'read -P 7 66048 65024');
  expect(isRunning(qemu.pid)).toBe(true);
});
