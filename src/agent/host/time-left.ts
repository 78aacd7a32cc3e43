/** A job's own time limit, on the clock of the state folder. */
import type { Job } from '../../core/job/job.ts';
import type { HostClock } from './host-clock.ts';

/**
 * The time until the job's own limit; it passes also while no agent runs. Infinity if there is none. For an older
 * journal without a time on this clock it counts from the begin of this service.
 */
export function timeLeftMs({ accepted, beganMs }: Job, clock: HostClock): number {
  const { timeLimitMs } = accepted.options;
  return timeLimitMs === undefined ? Infinity : (beganMs ?? clock.startedMs) + timeLimitMs - clock.nowMs;
}
