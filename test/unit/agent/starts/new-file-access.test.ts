import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { labelOf } from '../../../../src/agent/starts/new-file-access.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

it.each([
  ['unconfined\n', undefined],
  ['', undefined],
  ['libvirt-1111 (complain)\n', undefined],
  ['libvirt-1111 (enforce)\n', { by: 'AppArmor', text: 'libvirt-1111 (enforce)' }],
  ['system_u:system_r:svirt_t:s0:c1,c2\0', { by: 'SELinux', text: 'system_u:system_r:svirt_t:s0:c1,c2' }],
  ['unconfined_u:unconfined_r:unconfined_t:s0\0', undefined],
])('a process whose attr/current is %j is confined: %j', async (current, label) => {
  await using dir = await testDir();
  await mkdir(join(dir.path, '7/attr'), { recursive: true });
  await writeFile(join(dir.path, '7/attr/current'), current);
  expect(labelOf(7, dir.path)).toEqual(label);
});

it('of a process that /proc does not show is unknown', async () => {
  await using dir = await testDir();
  expect(labelOf(7, dir.path)).toBeUndefined();
});
