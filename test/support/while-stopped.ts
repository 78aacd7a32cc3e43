/** What others do while a process cannot look. */
import { readFileSync } from 'node:fs';
import { eventually } from './checks.ts';

/** Nothing of the process runs meanwhile (SIGSTOP): what is done to it then, it finds done when it goes on. */
export async function whileStopped(pid: number, work: () => Promise<void>): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  try {
    await eventually('the process is stopped', () => {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T') ? true : undefined;
    });
    await work();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}
