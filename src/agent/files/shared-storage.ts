/** Storage that other hosts may have, too. Their open files are not known here. */
import { stat } from '../host/disk-files.ts';
import { asKernelHas } from '../host/open-files.ts';

/** File systems of one host. Any other may be shared: a network's, a cluster's, or one in user space. */
const LOCAL: ReadonlySet<string> = new Set(
  (
    'bcachefs btrfs devtmpfs erofs exfat ext2 ext3 ext4 f2fs hfsplus hugetlbfs iso9660 jfs minix msdos nilfs2 ntfs3 ' +
    'overlay ramfs reiserfs rootfs squashfs tmpfs udf ufs vfat xfs zfs'
  ).split(' '),
);

/** The type of file system, as in mount(8). Undefined if it is this host's alone. UNKNOWN if that is not known. */
export function sharedKind(type: string | undefined): string | undefined {
  if (type === undefined) return 'an unknown file system';
  return LOCAL.has(type) ? undefined : type;
}

/** Its storage, as the continuation of a sentence; undefined if its file system belongs to this host alone. */
export async function sharedStorage(path: string): Promise<string | undefined> {
  const there = await stat(path).catch(() => undefined);
  if (there?.isBlockDevice() === true) return 'a block device';
  return sharedKind((await asKernelHas(path)).mount?.type);
}
