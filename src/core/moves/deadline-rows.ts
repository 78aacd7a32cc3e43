/** The pause of the guest when the time limit of its copy has expired, until the rest is copied. */
import type { Job } from '../job/job.ts';
import { mayPivot } from '../job/pivot-gate.ts';
import { AT_DEADLINE, carries } from './pivot-rows.ts';
import type { Going, Rows } from './situation.ts';

/** A pivot makes its pause itself. */
const isDue = ({ job, state, seen, pause }: Going) =>
  state === 'RUNNING' && job.guestPause === 'DUE' && seen.guestRuns && !seen.guestMigrates && pause === undefined;

/** Until the copy is READY, and beyond if its end follows at once. */
export function isHeldAtDeadline(job: Job): boolean {
  if (job.guestPause !== 'HELD') return false;
  const { onReady } = job.accepted.options;
  switch (job.state) {
    case 'RUNNING':
      return true;
    case 'READY':
      return onReady === 'FINISH' || (onReady === 'PIVOT' && mayPivot(job));
    case 'CANCELLING':
      return job.intent?.entry === 'finish-requested';
    default:
      return false;
  }
}

export const DEADLINE_ROWS: Rows<Going> = {
  'RUNNING, on_ready PIVOT; `policy-step` PAUSE_GUEST is recorded | dirty bitmaps not copied to the destination yet | copies the dirty bitmaps to the destination, before the guest is held':
    (s) => isDue(s) && s.job.accepted.options.onReady === 'PIVOT' && carries(s) && { move: 'carry-bitmaps' },
  'RUNNING; `policy-step` PAUSE_GUEST is recorded | runs the guest | pauses the guest, for at most `max_guest_pause`': (
    s,
  ) => isDue(s) && { move: 'hold-guest', because: AT_DEADLINE },
};
