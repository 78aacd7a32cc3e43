/** Actions of others while a process cannot look. */
import { readdirSync, readFileSync } from 'node:fs';
import { eventually } from '../checks.ts';

/** Resolves when no thread of the process runs any more: SIGSTOP comes to one thread after the other. */
export async function stop(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await eventually('the process is stopped', () => {
    const states = readdirSync(`/proc/${pid}/task`).map((thread) => stateOf(`/proc/${pid}/task/${thread}/stat`));
    return states.every((state) => state === 'T') ? true : undefined;
  });
}

/** Stops the process meanwhile (SIGSTOP): it finds the changes when it continues. */
export async function whileStopped(pid: number, work: () => Promise<void>): Promise<void> {
  await stop(pid);
  try {
    await work();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

/** proc(5): the state is behind the name, which may have brackets in it. Undefined if the thread has ended. */
function stateOf(file: string): string | undefined {
  try {
    const stat = readFileSync(file, 'latin1');
    return stat[stat.lastIndexOf(')') + 2];
  } catch {
    return undefined;
  }
}
