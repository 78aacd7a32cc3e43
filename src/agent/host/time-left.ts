/** A job's own time limit, by the clock of the state folder. */
import type { Job } from '../../core/job/job.ts';
import type { HostClock } from './host-clock.ts';

/**
 * Until the job's own limit; time passes while no agent runs, too. Infinity: there is none. Of an older journal, which does not
 * tell when it was begun by this clock, it counts from when this service began.
 */
export function timeLeftMs({ accepted, beganMs }: Job, clock: HostClock): number {
  const { timeLimitMs } = accepted.options;
  return timeLimitMs === undefined ? Infinity : (beganMs ?? clock.startedMs) + timeLimitMs - clock.nowMs;
}
