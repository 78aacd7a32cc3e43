/** A job's own time limit, by the clock of this host. */
import type { Job } from '../core/job.ts';

/** Until the job's own limit; time passes while no agent runs, too. Infinity: there is none. */
export function timeLeftMs({ accepted, createTime }: Job): number {
  const { timeLimitMs } = accepted.options;
  return timeLimitMs === undefined ? Infinity : Date.parse(createTime) + timeLimitMs - Date.now();
}
