/** The VM behind a QMP socket, and its jobs of ours: the first questions over each new connection. */
import type { QemuMonitor } from '../../core/job/qemu-identity.ts';
import { type QemuJob, readCpuThreads, readJobs, readName, readUuid } from '../../core/qemu/replies.ts';
import { Disconnected, Refused } from '../../qmp/errors.ts';
import type { Monitor } from '../../qmp/monitor.ts';
import { monitorAt } from './qemu-monitor.ts';
import { findListener, hasThread, type ProcessFacts } from './qemu-process.ts';

/** The identity that a QEMU has sent over the present connection. */
export interface Identity {
  readonly name: string | undefined;
  readonly uuid: string | undefined;
  readonly qemuVersion: string;
  /** Undefined if /proc does not show the process of the socket. */
  readonly facts: ProcessFacts | undefined;
  /** Undefined if it has no CPU yet, or the file of its socket may be an earlier one. */
  readonly monitor: QemuMonitor | undefined;
  /** The process is QEMU itself, and does not only forward its monitor: one of its threads runs a virtual CPU. */
  readonly isItself: boolean;
  /** The number of the connection; a new one may lead to another QEMU. */
  readonly generation: number;
}

/** Rejects with the errors of src/qmp/errors.ts. */
export async function identifyMachine(
  monitor: Monitor,
  socketPath: string,
  generation: number,
): Promise<{ readonly identity: Identity; readonly jobs: readonly QemuJob[] }> {
  const { state } = monitor;
  if (state.is !== 'connected') throw new Disconnected('ended');
  const [name, uuid, jobs, threads, facts] = await Promise.all([
    monitor.execute({ execute: 'query-name' }),
    monitor.execute({ execute: 'query-uuid' }),
    monitor.execute({ execute: 'query-jobs' }),
    cpuThreads(monitor),
    findListener(socketPath),
  ]);
  const [thread] = threads;
  const isItself = facts !== undefined && thread !== undefined && (await hasThread(facts.process.pid, thread));
  const shown = thread === undefined ? undefined : await monitorAt(socketPath, thread);
  const { qemu, package: packageName } = state.greeting.version;
  const number = `${qemu.major}.${qemu.minor}.${qemu.micro}`;
  const qemuVersion = packageName === '' ? number : `${number} (${packageName})`;
  return {
    identity: {
      name: short(readName(name)),
      uuid: short(readUuid(uuid)),
      qemuVersion,
      facts,
      monitor: shown,
      isItself,
      generation,
    },
    jobs: readJobs(jobs),
  };
}

/** A longer text is not taken as a name: it would be in memory, in each answer and in each line of the log. */
function short(text: string | undefined): string | undefined {
  return text === undefined || text.length > 1024 ? undefined : text;
}

/** Empty if there are no CPUs yet (`-preconfig`). */
async function cpuThreads(monitor: Monitor): Promise<readonly number[]> {
  try {
    return readCpuThreads(await monitor.execute({ execute: 'query-cpus-fast' }));
  } catch (error) {
    if (error instanceof Refused) return [];
    throw error;
  }
}
