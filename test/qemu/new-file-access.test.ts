/** A new destination has the rights that QEMU needs to open it again, and those of the source for others. */
import { chmod, chown, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { OnReady } from '../../generated/blockjob/v1/job.ts';
import { needs } from '../support/means.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';

const NOBODY = 65534;
const GROUP = 12_345;

// QEMU drops its rights after it has opened its disks, as with many managers.
describe.skipIf(needs('qemu') || process.getuid?.() !== 0)('a QEMU that is nobody', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  });

  test.each([
    { source: { uid: NOBODY, gid: GROUP, mode: 0o640 }, made: { uid: NOBODY, gid: GROUP, mode: 0o640 }, told: 0 },
    { source: { uid: 0, gid: NOBODY, mode: 0o664 }, made: { uid: 0, gid: NOBODY, mode: 0o664 }, told: 0 },
    { source: { uid: 0, gid: GROUP, mode: 0o660 }, made: { uid: NOBODY, gid: NOBODY, mode: 0o600 }, told: 1 },
  ])('with a source of $source gets a file of $made', async ({ source, made, told }) => {
    await using machine = await site.machine({ formats: ['qcow2'], extraArgs: ['-runas', 'nobody'] });
    const { disk, dir, top } = machine;
    await chmod(dir, 0o777);
    await chown(top.path, source.uid, source.gid);
    await chmod(top.path, source.mode);
    const value = join(dir, 'new.qcow2');
    const request = StartCopyRequest.fromPartial({
      disk,
      destination: { target: { $case: 'file', value } },
      onReady: OnReady.ON_READY_PIVOT,
    });
    const { notes } = await site.service.planOf('startCopy', request);
    expect(notes.filter((note) => note.includes(`give ${value}`))).toHaveLength(told);
    const { outcome } = await site.ended(await site.service.startCopy(request));
    expect(outcome?.nextStartPath).toBe(value);
    expect(outcome?.evidence.filter(({ text }) => text.includes(`give ${value}`))).toHaveLength(told);
    const { uid, gid, mode } = await stat(value);
    expect({ uid, gid, mode: mode & 0o777 }).toEqual(made);
  });
});
