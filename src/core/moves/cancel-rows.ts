/** The rows for a job that is to end without a pivot. */
import { writeModeOf } from '../job/end-policy.ts';
import { type Going, type Rows, record } from './situation.ts';
import { meanwhile, once, resume } from './wishes.ts';

const BLOCKING_FAULT = 'QEMU can crash when a blocking copy is cancelled under a busy guest (seen with QEMU 7.2)';

const isCancelled = ({ state }: Going) => state === 'CANCELLING';

/** Whether it should leave a complete copy if it can: after READY, without force. */
function isSoft({ state, job: { intent } }: Going): boolean {
  return state === 'CANCELLING' && !(intent?.entry === 'cancel-requested' && intent.force);
}

const isSettledSoft = (going: Going) => going.settled && isSoft(going);

function isUnderWay(going: Going): boolean {
  const { status } = going.now;
  if (status === 'aborting') return true;
  // The end of a copy without force: a forced cancel now would make the copy unusable.
  const isCopy = going.job.accepted.destination !== undefined;
  return isCopy && isSoft(going) && (status === 'waiting' || status === 'pending');
}

function needsHold({ job, seen, asked }: Going): boolean {
  const { options } = job.accepted;
  const pauseGuest =
    (job.intent?.entry === 'cancel-requested' ? job.intent.pauseGuest : undefined) ?? options.pauseGuest;
  return writeModeOf(job) === 'BLOCKING' && pauseGuest !== 'NEVER' && seen.guestRuns && !asked.has('forceEnd');
}

export const CANCEL_ROWS: Rows<Going> = {
  'CANCELLING | the job is ending | waits': (s) => isCancelled(s) && isUnderWay(s) && meanwhile(s),
  'CANCELLING, not by force | ready, the guest migrates | waits: after the migration, the guest writes on another host. A copy that ends later does not match any point in time of its disk':
    (s) => isSettledSoft(s) && s.seen.guestMigrates && meanwhile(s),
  // Only the unforced cancel after READY leaves a complete copy; a paused job refuses it, or waits in it.
  'CANCELLING, not by force | ready, and paused by a client | resumes the job (`job-resume`): a paused job does not end with a complete copy':
    (s) => isSettledSoft(s) && s.pause === 'USER' && (resume(s) ?? meanwhile(s)),
  // Another client may end it before we do: the copy counts only for the time at which it was seen.
  'CANCELLING, not by force | ready | records `followed`: the copy is COMPLETE as of that time': (s) =>
    isSettledSoft(s) &&
    s.pause === undefined &&
    !s.job.followedSinceAsked &&
    record({ entry: 'followed', seenAt: s.seen.at }),
  'CANCELLING, not by force; `followed` is recorded | ready | asks QEMU, once per connection, to end the job and keep the copy (`block-job-cancel`)':
    (s) =>
      isSettledSoft(s) &&
      s.pause === undefined &&
      (once(s, 'end', { execute: 'block-job-cancel', arguments: { device: s.job.accepted.job, force: false } }) ??
        meanwhile(s)),
  'CANCELLING, `on_ready` FINISH | ready, and paused by an error | waits until the error is corrected, because the copy is wanted':
    (s) => isSettledSoft(s) && s.job.intent?.entry === 'finish-requested' && meanwhile(s),
  'CANCELLING, BLOCKING | to be cancelled while its guest runs | pauses the guest first, because QEMU can crash otherwise. It waits while the guest migrates, or if the guest was held a short time ago':
    (s) =>
      isCancelled(s) &&
      needsHold(s) &&
      (s.asked.has('restsFromHold') || s.seen.guestMigrates
        ? meanwhile(s)
        : { move: 'hold-guest', because: BLOCKING_FAULT }),
  'CANCELLING | still has the job | asks QEMU, once per connection, to cancel the job (`job-cancel`)': (s) =>
    isCancelled(s) &&
    (once(s, 'forceEnd', { execute: 'job-cancel', arguments: { id: s.job.accepted.job } }) ?? meanwhile(s)),
};
