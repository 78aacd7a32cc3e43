/**
 * What this service can tell of the processes of its host: it may be in a pid namespace of its own, where a pid is another
 * process than elsewhere, and /proc may hide those of others.
 */
import { readFile, readlink } from 'node:fs/promises';
import { bootId } from './proc.ts';

export interface Sight {
  /** Another one: the host has been booted since. Undefined where /proc does not tell, as with ProcSubset=pid. */
  readonly bootId: string | undefined;
  /** In which a pid is one; undefined where /proc is of another than this process is in. */
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

/** Is there a process of this number in our namespace? The kernel tells it of any, also where /proc hides it. */
export function isProcessThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
  }
}

/** The namespace in which the host's first process is: from there all others are seen (PROC_PID_INIT_INO). */
export const FIRST_NAMESPACE = 'pid:[4026531836]';

/** Does /proc show the processes of all users? */
export async function showsAll(): Promise<boolean> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  const [last] = mounts
    .split('\n')
    .filter((line) => line.split(' ')[4] === '/proc')
    .slice(-1);
  return last !== undefined && !/\bhidepid=(?!0\b|off\b)/.test(last);
}
