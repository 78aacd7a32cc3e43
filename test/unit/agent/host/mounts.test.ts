/** The file systems that the kernel lists. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { deviceNumber } from '../../../../src/agent/host/device-number.ts';
import { stat } from '../../../../src/agent/host/disk-files.ts';
import { mountsIn } from '../../../../src/agent/host/mounts.ts';
import { asKernelHas } from '../../../../src/agent/host/open-files.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

it('are known by the number of the mount, with what the kernel calls them', () => {
  const told = mountsIn(
    [
      '22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw',
      '96 22 0:42 / /srv/a\\040-\\040b rw,relatime - overlay overlay rw,lowerdir=a',
      '97 22 0:300 /vms /srv/nfs rw - nfs4 filer:/vms rw,vers=4.2',
      '98 22 0:51 / /srv/gluster rw - fuse.glusterfs filer:/vms rw',
      'text that nobody understands',
      '',
    ].join('\n'),
  );
  expect([...told]).toEqual([
    ['22', { device: deviceNumber(254, 0), type: 'ext4' }],
    ['96', { device: deviceNumber(0, 42), type: 'overlay' }],
    ['97', { device: deviceNumber(0, 300), type: 'nfs4' }],
    ['98', { device: deviceNumber(0, 51), type: 'fuse.glusterfs' }],
  ]);
});

it('one of them is that on which a file is', async () => {
  await using dir = await testDir();
  const path = join(dir.path, 'x');
  await writeFile(path, '');
  const { inode, mount } = await asKernelHas(path);
  expect([inode, mount?.type]).toEqual([String((await stat(path)).ino), expect.stringMatching(/^\w+$/)]);
  expect(await asKernelHas(join(dir.path, 'gone'))).toEqual({ inode: undefined, mount: undefined });
});
