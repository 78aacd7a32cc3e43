/**
 * The limits of the guest's disks in QEMU. They belong to the guest's device, and so they survive a pivot. Each is in a
 * group, and the limits of a group are those of all its disks. A disk that gets a limit in another group leaves its own.
 */
import type { QmpCommand } from './commands.ts';
import { list, object, text } from './replies.ts';

/** The limits of one disk. */
export interface DiskLimits {
  readonly qdev: string;
  /** Undefined if the disk has no limits. */
  readonly group: string | undefined;
  /** Those that are not 0, by QEMU's names: `bps_wr`, `iops_max`, … */
  readonly limits: Readonly<Record<string, number>>;
}

/** The highest limit that QEMU takes. It slows nothing down. */
export const NO_EFFECT = 1e15;

/** From query-block, the only answer that has them. */
export function readLimits(reply: unknown): readonly DiskLimits[] {
  return list(reply, 'query-block').map((entry) => {
    const inserted = object(entry['inserted'] ?? {}, 'query-block');
    const limits = Object.entries(inserted).filter(
      (one): one is [string, number] => /^(?:bps|iops)(?:$|_)/.test(one[0]) && typeof one[1] === 'number' && one[1] > 0,
    );
    return { qdev: text(entry['qdev']) ?? '', group: text(inserted['group']), limits: Object.fromEntries(limits) };
  });
}

const NONE = { bps: 0, bps_rd: 0, iops: 0, iops_rd: 0, iops_wr: 0 } as const;

/** Limits the guest's writes. QEMU waits for nothing. */
export function limitWrites(qdev: string, group: string, bytesPerSecond: number): QmpCommand {
  return { execute: 'block_set_io_throttle', arguments: { id: qdev, ...NONE, bps_wr: bytesPerSecond, group } };
}

/**
 * Takes the limits of a disk and their group away. QEMU drains the disk for it: while a mirror runs, it waits until the
 * mirror has written its data in flight, and the guest waits as well.
 */
export function takeLimitsAway(qdev: string): QmpCommand {
  return { execute: 'block_set_io_throttle', arguments: { id: qdev, ...NONE, bps_wr: 0 } };
}
