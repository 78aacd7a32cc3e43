/** Storage that other hosts may have, too. What they have open on it, nobody here knows. */
import { stat } from '../host/disk-files.ts';
import { asKernelHas } from '../host/open-files.ts';

/** Of one host by their making. What is not here may be shared: a network's, a cluster's, or one in user space. */
const LOCAL: ReadonlySet<string> = new Set(
  (
    'bcachefs btrfs devtmpfs erofs exfat ext2 ext3 ext4 f2fs hfsplus hugetlbfs iso9660 jfs minix msdos nilfs2 ntfs3 ' +
    'overlay ramfs reiserfs rootfs squashfs tmpfs udf ufs vfat xfs zfs'
  ).split(' '),
);

/** As mount(8) names a type of file system. Undefined: of this host alone. UNKNOWN: the kernel does not tell. */
export function sharedKind(type: string | undefined): string | undefined {
  if (type === undefined) return 'an unknown file system';
  return LOCAL.has(type) ? undefined : type;
}

/** What it is on, as a sentence goes on; undefined: on a file system of this host alone. */
export async function sharedStorage(path: string): Promise<string | undefined> {
  const there = await stat(path).catch(() => undefined);
  if (there?.isBlockDevice() === true) return 'a block device';
  return sharedKind((await asKernelHas(path)).mount?.type);
}
