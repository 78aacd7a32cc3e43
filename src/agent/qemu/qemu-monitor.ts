/**
 * The identity of a QEMU as its monitor shows it. It is the same for every service, also for one whose /proc does not
 * show QEMU's process, or shows it under another number.
 */
import { stat } from 'node:fs/promises';
import type { QemuMonitor } from '../../core/job/qemu-identity.ts';
import { bornOf, keyOfFile } from '../../core/job/used-file.ts';
import { inTime } from '../../lib/timer.ts';

/** A file system that hangs must not keep a VM from being found. */
const STAT_MS = 1000;

/** Undefined if the socket's file has no birth time: then its inode may be that of an earlier file. */
export async function monitorAt(socketPath: string, cpuThread: number): Promise<QemuMonitor | undefined> {
  const found = await inTime(stat(socketPath, { bigint: true }), STAT_MS);
  if (found === undefined) return undefined;
  const born = bornOf(found.ino, found.birthtimeNs);
  return born === undefined ? undefined : { socket: `${keyOfFile(found.dev, found.ino)}, ${born}`, cpuThread };
}

/**
 * Whether they are proved to be one QEMU. Each QEMU makes a file for its socket, but a program that forwards the
 * monitor keeps its own: so the thread must be the same, too.
 */
export function isSameMonitor(one: QemuMonitor | undefined, other: QemuMonitor | undefined): boolean {
  return one !== undefined && one.socket === other?.socket && one.cpuThread === other.cpuThread;
}
