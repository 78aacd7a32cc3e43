/**
 * The service's knowledge of its host's processes: it may be in a pid namespace of its own, where pids differ, and
 * /proc may hide the processes of others.
 */
import { readFile, readlink } from 'node:fs/promises';
import { bootId } from './proc.ts';

export interface Sight {
  /** Another one after each boot of the host. Undefined if /proc does not show it, for example with ProcSubset=pid. */
  readonly bootId: string | undefined;
  /** The namespace of pids; undefined if /proc belongs to another namespace than this process. */
  readonly pidNamespace: string | undefined;
}

/** It does not change while the service runs. */
let known: Promise<Sight> | undefined;

export async function sight(): Promise<Sight> {
  known ??= look();
  return await known;
}

async function look(): Promise<Sight> {
  // A /proc that was mounted for another namespace shows us under another number, or not at all.
  const self = await readlink('/proc/self').catch(() => '');
  const pidNamespace = await readlink('/proc/self/ns/pid').catch(() => undefined);
  return { bootId: bootId(), pidNamespace: self === String(process.pid) ? pidNamespace : undefined };
}

/** Whether a process has this number in our namespace. The kernel answers for every process, even if /proc hides it. */
export function isProcessThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
  }
}

/** The namespace of the host's first process: all others are visible from there (PROC_PID_INIT_INO). */
export const FIRST_NAMESPACE = 'pid:[4026531836]';

/** Whether /proc shows the processes of all users. */
export async function showsAll(): Promise<boolean> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  const [last] = mounts
    .split('\n')
    .filter((line) => line.split(' ')[4] === '/proc')
    .slice(-1);
  return last !== undefined && !/\bhidepid=(?!0\b|off\b)/.test(last);
}
