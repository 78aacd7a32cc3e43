/** A file that may not grow, though its file system has room: because of QEMU's file size limit, or a quota. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { errorOf, refusalOf } from '../support/service/caller.ts';

describe.skipIf(needs('qemu'))('a destination that may not grow', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  test('is too long, and leaves nothing', async () => {
    await using machine = await site.machine();
    await run('prlimit', ['--pid', String(machine.qemu.pid), '--fsize=1048576:unlimited']);
    const path = join(machine.dir, 'copy');
    const started = site.service.startCopy({
      disk: machine.disk,
      destination: { target: { $case: 'file', value: path } },
    });
    const why = await started.then(async (job) => errorOf(await site.ended(job)), refusalOf);
    expect(why).toMatchObject({ reason: 'FILE_TOO_LARGE', metadata: { path } });
    expect(await site.service.listLeftovers(machine.disk.domain)).toEqual([]);
  });
});
