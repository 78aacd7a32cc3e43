/**
 * The flash chip that holds a VM's firmware variables is a disk as any other: it is moved with the others when their
 * storage is replaced.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { monitorIn } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { compareImages, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

describe.skipIf(needs('qemu'))('a flash chip', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  async function vmWithFlash(dir: string) {
    const [code, variables] = [join(dir, 'code.fd'), join(dir, 'variables.fd')];
    await run('qemu-img', ['create', '-q', '-f', 'raw', code, '1M']);
    // Its size is a multiple of no cluster and of few blocks.
    await run('qemu-img', ['create', '-q', '-f', 'raw', variables, '528K']);
    await run('qemu-io', ['-f', 'raw', '-c', 'write -P 0x17 0 528k', variables]);
    const name = `m${dir.slice(-6)}`;
    const flash = [
      '-drive',
      `if=pflash,unit=0,format=raw,readonly=on,file=${code}`,
      '-drive',
      `if=pflash,unit=1,format=raw,file=${variables}`,
    ];
    const extraArgs = [...monitorIn(site.sockets, name), ...flash];
    const qemu = await startQemu({ style: 'drive', name, disks: [], extraArgs });
    await site.service.domainUp(name);
    return { qemu, variables, disk: { domain: name, disk: 'pflash1' } };
  }

  test('is copied, because no other program has its file, and the VM continues with the copy', async () => {
    await using dir = await testDir();
    const { qemu, variables, disk } = await vmWithFlash(dir.path);
    await using _ = qemu;
    const path = join(dir.path, 'copy.fd');
    const { id } = await site.service.startCopy({ disk, destination: { target: { $case: 'file', value: path } } });
    await site.service.until(id, 'STATE_READY');
    expect((await site.service.abort({ job: byId(id), pivot: true })).state).toBe(Job_State.STATE_COMPLETED);
    await qemu[Symbol.asyncDispose]();
    expect(await compareImages(variables, 'raw', path, 'raw')).toMatchObject({ identical: true });
  });

  test('is refused if another program may write to its file, and the error says so', async () => {
    await using dir = await testDir();
    const { qemu, variables, disk } = await vmWithFlash(dir.path);
    await using _ = qemu;
    await qemu.admin.execute('blockdev-add', {
      driver: 'file',
      'node-name': 'another',
      filename: variables,
      locking: 'off',
    });
    const target = { $case: 'file', value: join(dir.path, 'copy.fd') } as const;
    const { reason, message } = await refused(site.service.startCopy({ disk, destination: { target } }));
    expect(reason).toBe('LOSS_NOT_ACCEPTED');
    expect(message).toContain(' may be written by node another');
  });
});
