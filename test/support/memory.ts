/** The memory and the processor time that a process uses. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { eventually, present } from './checks.ts';

/** Its highest value. */
export function peakBytes({ pid }: { readonly pid: number }): number {
  const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]) * 1024;
}

const TICK_MS = 10;

export interface Use {
  /** Since its start, with the time of the kernel for it. */
  readonly cpuMs: number;
  readonly residentMib: number;
}

export function useOf({ pid }: { readonly pid: number }): Use {
  // The name of the program may hold anything; the fields after it do not.
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const [user, system] = fields.split(' ').slice(11, 13).map(Number);
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return { cpuMs: (present(user) + present(system)) * TICK_MS, residentMib: Number(kib) / 1024 };
}

interface Debugged {
  readonly pid: number;
  /** Its standard error so far. */
  readonly log: string;
}

/**
 * The memory that is still in use in a Node process, after a collection of the rest. Its debugger answers, which listens at a
 * port of its own: the process has to be started with DEBUGGED.
 */
export async function liveBytes(service: Debugged): Promise<number> {
  // It listens since the first one.
  process.kill(service.pid, 'SIGUSR1');
  const url = await eventually('the debugger listens', () => /ws:\/\/\S+/.exec(service.log)?.[0]);
  const socket = new WebSocket(url);
  try {
    await once(socket, 'open');
    await asked(socket, 'HeapProfiler.collectGarbage');
    const { usedSize, backingStorageSize } = await asked(socket, 'Runtime.getHeapUsage');
    return Number(usedSize) + Number(backingStorageSize);
  } finally {
    socket.close();
  }
}

/** For the environment of the process. */
export const DEBUGGED = { NODE_OPTIONS: '--inspect-port=127.0.0.1:0' } as const;

async function asked(socket: WebSocket, method: string): Promise<Readonly<Record<string, unknown>>> {
  const answered = once(socket, 'message');
  socket.send(JSON.stringify({ id: 1, method }));
  const [{ data }] = (await answered) as [{ readonly data: string }];
  const { result } = JSON.parse(data) as { readonly result?: Readonly<Record<string, unknown>> };
  if (result === undefined) throw new Error(`${method}: ${data}`);
  return result;
}
