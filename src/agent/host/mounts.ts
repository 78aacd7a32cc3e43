/** The mounted file systems of this host, from the kernel: the file system of a file is not asked for anything. */
import { readFile } from 'node:fs/promises';
import { deviceNumber } from './file-identity.ts';

export interface Mount {
  /** The kernel's own number of the file system; `stat` may report others for overlay and btrfs. */
  readonly device: number;
  /** As in mount(8): ext4, nfs4, fuse.glusterfs. */
  readonly type: string;
}

/** By the number that fdinfo calls mnt_id. */
export async function mounts(): Promise<ReadonlyMap<string, Mount>> {
  return mountsIn(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''));
}

export function mountsIn(mountinfo: string): ReadonlyMap<string, Mount> {
  return new Map(
    mountinfo.split('\n').flatMap((line) => {
      // ID, its parent's, MAJOR:MINOR, root, mount point, options, any more of them, a hyphen, type, source, options.
      const [, id, major, minor, type] = /^(\d+) \d+ (\d+):(\d+) .*? - (\S+) /.exec(line) ?? [];
      if (id === undefined || type === undefined) return [];
      return [[id, { device: deviceNumber(Number(major), Number(minor)), type }] as const];
    }),
  );
}
