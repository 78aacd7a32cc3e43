/** The storage that other hosts may have, too. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { sharedKind, sharedStorage } from '../../../../src/agent/files/shared-storage.ts';
import { mountsIn } from '../../../../src/agent/host/mounts.ts';
import { testDir } from '../../../support/real-qemu/qemu.ts';

const MOUNTINFO = `
20 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
21 20 0:50 / /srv/nfs rw,relatime - nfs filer:/vms rw,vers=3
22 20 0:51 / /srv/nfs4 rw,relatime - nfs4 filer:/vms rw,vers=4.2
23 20 0:52 / /srv/ceph rw,relatime - ceph mon:6789:/ rw
24 20 253:1 / /srv/gfs2 rw,relatime - gfs2 /dev/mapper/san rw
25 20 253:2 / /srv/ocfs2 rw,relatime - ocfs2 /dev/mapper/san2 rw
26 20 0:53 / /srv/gluster rw,relatime - fuse.glusterfs filer:/vms rw
27 20 0:54 / /srv/sshfs rw,relatime - fuse.sshfs host:/vms rw
28 20 0:55 / /srv/9p rw,relatime - 9p host rw,trans=virtio
29 20 0:56 / /srv/virtiofs rw,relatime - virtiofs host rw
30 20 0:57 / /srv/smb rw,relatime - cifs //filer/vms rw
31 20 0:58 / /srv/lustre rw,relatime - lustre mgs@tcp:/vms rw
32 20 0:59 / /srv/new rw,relatime - whatever-comes-next host rw
40 20 253:3 / /srv/xfs rw,relatime - xfs /dev/mapper/local rw
41 20 0:60 /vms /srv/btrfs rw,relatime - btrfs /dev/vdb rw
42 20 0:61 / /srv/zfs rw,relatime - zfs tank/vms rw
43 20 0:62 / /tmp rw,relatime - tmpfs tmpfs rw
44 20 0:63 / /merged rw,relatime - overlay overlay rw
`;

it('is all storage that is not known to belong to one host', () => {
  const kinds = [...mountsIn(MOUNTINFO)].map(([, { type }]) => [type, sharedKind(type)]);
  const shared = 'nfs nfs4 ceph gfs2 ocfs2 fuse.glusterfs fuse.sshfs 9p virtiofs cifs lustre whatever-comes-next'.split(
    ' ',
  );
  const local = ['xfs', 'btrfs', 'zfs', 'tmpfs', 'overlay'];
  expect(kinds).toEqual([
    ['ext4', undefined],
    ...shared.map((type) => [type, type]),
    ...local.map((type) => [type, undefined]),
  ]);
  expect(sharedKind(undefined)).toBe('an unknown file system');
});

it('is not storage that the kernel itself keeps for this host', async () => {
  await using dir = await testDir();
  const path = join(dir.path, 'x');
  await writeFile(path, '');
  expect(await sharedStorage(path)).toBeUndefined();
  expect(await sharedStorage(join(dir.path, 'gone'))).toBe('an unknown file system');
});
