/** Images whose names are not UTF-8: QEMU reports another name, which must not be written to a header. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Job_State } from '../../generated/blockjob/v1/job.ts';
import { monitorIn } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

/** A shell runs it, because Node cannot have such names. */
const MAKE = String.raw`
  cd "$0"; base="$0/$(printf 'base\377')"
  qemu-img create -q -f qcow2 "$base" 1M
  qemu-io -f qcow2 -c 'write -P 7 0 1M' "$base" >&2
  qemu-img create -q -f qcow2 -F qcow2 -b "$base" middle
  qemu-img create -q -f qcow2 -F qcow2 -b "$0/middle" top
`;

describe.skipIf(needs('qemu'))('a base whose name is not UTF-8', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  test('is written to no header; the whole disk may be copied and pulled', async () => {
    await using dir = await testDir();
    await run('sh', ['-ec', MAKE, dir.path]);
    const top = join(dir.path, 'top');
    const name = `m${dir.path.slice(-6)}`;
    const drive = ['-drive', `if=none,id=d,format=qcow2,file=${top}`, '-device', 'virtio-blk-pci,id=disk0,drive=d'];
    await using qemu = await startQemu({
      style: 'drive',
      name,
      disks: [],
      extraArgs: [...monitorIn(site.sockets, name), ...drive],
    });
    await site.service.domainUp(name);
    const disk = { domain: name, disk: 'disk0' };
    const unsuitable = { reason: 'IMAGE_UNSUITABLE', metadata: { kind: 'MISNAMED' } };
    // The middle image is removed: the image above it would name the base.
    expect(await refused(site.service.rebase({ disk, base: 'disk0[2]' }))).toMatchObject(unsuitable);
    expect(await refused(site.service.commit({ disk, top: 'disk0[1]', base: 'disk0[2]' }))).toMatchObject(unsuitable);
    const pull = await site.ended(await site.service.rebase({ disk, base: join(dir.path, 'middle') }));
    expect(pull.state).toBe(Job_State.STATE_COMPLETED);
    const path = join(dir.path, 'copy');
    const { id } = await site.service.startCopy({ disk, destination: { target: { $case: 'file', value: path } } });
    await site.service.until(id, 'STATE_READY');
    expect((await site.service.abort({ job: byId(id), pivot: true })).state).toBe(Job_State.STATE_COMPLETED);
    await qemu.admin.hmpQemuIo('disk0', 'read -P 7 0 1M');
  });
});
