/** A job that is to end without a pivot. */
import { type Going, type Rows, record } from './situation.ts';
import { meanwhile, once, resume } from './wishes.ts';

const BLOCKING_FAULT = 'QEMU can crash when a blocking copy is broken off under a busy guest (seen with QEMU 7.2)';

const isCancelled = ({ state }: Going) => state === 'CANCELLING';

/** It is to leave a complete copy where it can: after READY, without force. */
function isSoft({ state, job: { intent } }: Going): boolean {
  return state === 'CANCELLING' && !(intent?.entry === 'cancel-requested' && intent.force);
}

const isSettledSoft = (going: Going) => going.settled && isSoft(going);

function isUnderWay(going: Going): boolean {
  const { status } = going.now;
  if (status === 'aborting') return true;
  // The end of a copy that was asked for softly: a cancel now would make rubbish of it.
  const isCopy = going.job.accepted.destination !== undefined;
  return isCopy && isSoft(going) && (status === 'waiting' || status === 'pending');
}

function needsHold({ job, seen, asked }: Going): boolean {
  const { options } = job.accepted;
  const pauseGuest =
    (job.intent?.entry === 'cancel-requested' ? job.intent.pauseGuest : undefined) ?? options.pauseGuest;
  return options.writeMode === 'BLOCKING' && pauseGuest !== 'NEVER' && seen.guestRuns && !asked.has('forceEnd');
}

export const CANCEL_ROWS: Rows<Going> = {
  'CANCELLING | its end is under way | waits': (s) => isCancelled(s) && isUnderWay(s) && meanwhile(s),
  'CANCELLING, not by force | ready, the guest migrates | waits: what the copy has when the guest has left is of no moment of its disk':
    (s) => isSettledSoft(s) && s.seen.guestMigrates && meanwhile(s),
  // Only the unforced cancel after READY leaves a complete copy; a job that is paused refuses it, or waits in it.
  'CANCELLING, not by force | ready, and paused by somebody | resumes it (`job-resume`): paused, it would not end softly':
    (s) => isSettledSoft(s) && s.pause === 'USER' && (resume(s) ?? meanwhile(s)),
  // Another client may have ended it before we do: what is claimed of the copy is only what was seen.
  'CANCELLING, not by force | ready | writes down `followed`: the copy is COMPLETE as of then': (s) =>
    isSettledSoft(s) &&
    s.pause === undefined &&
    !s.job.followedSinceAsked &&
    record({ entry: 'followed', seenAt: s.seen.at }),
  'CANCELLING, not by force; `followed` is written | ready | asks QEMU to end it, once a connection, and the copy stays (`block-job-cancel`)':
    (s) =>
      isSettledSoft(s) &&
      s.pause === undefined &&
      (once(s, 'end', { execute: 'block-job-cancel', arguments: { device: s.job.accepted.job, force: false } }) ??
        meanwhile(s)),
  'CANCELLING, to be finished | ready, and waits for an error to be mended | waits: a copy that is to be finished is worth it':
    (s) => isSettledSoft(s) && s.job.intent?.entry === 'finish-requested' && meanwhile(s),
  'CANCELLING, BLOCKING | to be broken off, and its guest runs | pauses the guest first, since QEMU can crash; not while it migrates, nor before it has rested from a hold':
    (s) =>
      isCancelled(s) &&
      needsHold(s) &&
      (s.asked.has('restsFromHold') || s.seen.guestMigrates
        ? meanwhile(s)
        : { move: 'hold-guest', because: BLOCKING_FAULT }),
  'CANCELLING | still there | asks QEMU to break it off, once a connection (`job-cancel`)': (s) =>
    isCancelled(s) &&
    (once(s, 'forceEnd', { execute: 'job-cancel', arguments: { id: s.job.accepted.job } }) ?? meanwhile(s)),
};
