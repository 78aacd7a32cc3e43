/** The mounts of a process, from /proc. */
import { deviceNumber } from './device-number.ts';
import { shown } from './proc.ts';

/** A mounted file system, as a process has it. */
export interface Mount {
  /** The kernel's own number of the file system; `stat` may report others for overlay and btrfs. */
  readonly device: number;
  /** As in mount(8): ext4, nfs4, fuse.glusterfs. */
  readonly type: string;
}

/** By the number that fdinfo calls mnt_id. The file systems themselves are not asked for anything. */
export function mountsOf(pid: number | 'self'): ReadonlyMap<string, Mount> {
  return mountsIn(shown(`/proc/${pid}/mountinfo`) ?? '');
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
