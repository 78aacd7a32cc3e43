/** The memory of a process. */
import { readFileSync } from 'node:fs';

/** Its highest value. */
export function peakBytes({ pid }: { readonly pid: number }): number {
  const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]) * 1024;
}
