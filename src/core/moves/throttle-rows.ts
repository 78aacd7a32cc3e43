/** The rows for a job that slows its guest down, or is to. */
import { hasMark, isSlowedDown } from '../job/guest-throttle.ts';
import type { Move } from './moves.ts';
import { type Going, type Rows, record, type Situation } from './situation.ts';

const WANTS: readonly string[] = ['RUNNING', 'READY', 'PIVOTING'];

/** Only a job that was given up may still run. */
function mayGoOn({ job, seen }: Situation): boolean {
  if (job.concluded?.how !== 'GIVEN_UP' || seen.qemu !== 'UP' || seen.job === undefined) return false;
  return !['concluded', 'null'].includes(seen.job.status);
}

function liftsAtEnd(s: Situation): Move | undefined {
  const { job, seen } = s;
  if (job.concluded === undefined || !hasMark(job)) return undefined;
  const hasEnded = seen.qemu === 'ENDED' || job.concluded.how === 'QEMU_ENDED';
  if (hasEnded) return record({ entry: 'throttle-lifted', because: 'QEMU_ENDED' });
  const isGoing = mayGoOn(s);
  // Then the mark stays, as a leftover.
  const isDone = job.throttle?.is === 'WITHOUT_EFFECT' && isGoing;
  return seen.qemu === 'UP' && !isDone ? { move: 'lift-throttle', because: 'OVER', isGoing } : undefined;
}

/** The end of the job is recorded before: then the disk can be drained at once. */
export const LIFT_ROWS: Rows = {
  'guest slowed down, `concluded` is recorded | answers, or has ended | takes its limit on the guest’s writes away, records `throttle-lifted`. A limit that another client has set since stays':
    liftsAtEnd,
};

export const THROTTLE_ROWS: Rows<Going> = {
  'guest slowed down; its longest time is over, or the journal was lost | still has the job | sets a limit that has no effect, records `throttle-lifted`. It is taken away when the job is over: QEMU drains the disk for that, and would wait for the copy':
    ({ job, asked }) =>
      isSlowedDown(job) &&
      asked.has('throttleIsOver') && { move: 'lift-throttle', because: 'TIME_IS_UP', isGoing: true },
  'RUNNING, READY, PIVOTING; `throttle-requested` is recorded | has not set the limit, as far as is known | sets it (`block_set_io_throttle`), records `throttled`':
    ({ job, state }) => WANTS.includes(state) && job.throttle?.is === 'REQUESTED' && { move: 'throttle' },
};
