/** A job whose guest is to be moved to the destination. */
import { isOverNetwork } from '../job/job-facts.ts';
import { type Going, RELEASE, type Rows, record } from './situation.ts';
import { meanwhile, once, resume, takesChanges } from './wishes.ts';

const isPivoting = ({ state }: Going) => state === 'PIVOTING';

/** And QEMU was not asked yet: until then the guest is on its source, and may be kept there. */
const isBefore = ({ state, asked }: Going) => state === 'PIVOTING' && !asked.has('complete');

const waitsReleased = (going: Going) => (going.job.guestHeld ? RELEASE : meanwhile(going));

/** The bitmaps are to be on the destination when the guest is. */
function carries({ job, asked }: Going): boolean {
  return job.accepted.destination?.format === 'QCOW2' && !asked.has('bitmaps') && !asked.has('complete');
}

/** Why the guest is to be paused first for the instant of this pivot; undefined: it runs on, or is paused already. */
function pauseBecause({ job, seen, asked }: Going): string | undefined {
  if (!seen.guestRuns || (asked.has('complete') && job.guestHeld)) return undefined;
  const pauseGuest = job.intent?.entry === 'pivot-requested' ? job.intent.pauseGuest : 'NEVER';
  switch (pauseGuest) {
    case 'NEVER':
      return undefined;
    case 'ALWAYS':
      return 'asked for by pause_guest ALWAYS';
    case 'AUTO':
      if (job.accepted.pauseGuestBecause !== undefined) return job.accepted.pauseGuestBecause;
      if (!asked.has('overdue') || job.accepted.holdsWithoutBound === true) return undefined;
      return 'the guest writes faster than the copy follows';
  }
}

/** What is left to be written before QEMU may be asked, or what QEMU does not take yet. */
function isTooEarly({ job, now, asked }: Going): boolean {
  // standby is a drain by somebody else and passes; a completion asked for now would wait for it anyway.
  if (asked.has('complete') || now.status !== 'ready') return true;
  // QEMU 10 and newer answer nothing any more if a destination hangs at this.
  if (isOverNetwork(job) && !asked.has('stopsSoon')) return true;
  // A completion cannot be taken back, and waits for the rest: with a paused guest the rest comes first, in bounds.
  return job.guestHeld && now.remainingBytes > 0;
}

export const PIVOT_ROWS: Rows<Going> = {
  'PIVOTING | paused by somebody | resumes it (`job-resume`), as soon as QEMU takes that': (s) =>
    isPivoting(s) && s.pause === 'USER' && ((takesChanges(s.now.status) ? resume(s) : undefined) ?? meanwhile(s)),
  'PIVOTING | waits for an error to be mended | continues the guest if it is held, and waits': (s) =>
    isPivoting(s) && s.pause !== undefined && waitsReleased(s),
  // Where the guest is to go on the source has been opened: all that it wrote after a pivot would be missing there.
  'PIVOTING | the guest migrates, or is another’s | continues it if it is held, and waits: a pivot would be lost to the guest':
    (s) => isBefore(s) && (s.seen.guestMigrates || s.asked.has('fenced')) && waitsReleased(s),
  'PIVOTING | the destination’s file has moved | writes down `cancel-requested`, by force: at the name of the destination is nothing, or another file, and the guest would not find its disk at its next start':
    (s) =>
      isBefore(s) &&
      s.asked.has('destinationMoved') &&
      record({ entry: 'cancel-requested', force: true, destinationMoved: true }),
  'PIVOTING | under way | waits': (s) =>
    isPivoting(s) && ['waiting', 'pending', 'aborting'].includes(s.now.status) && meanwhile(s),
  // That waits for others' formats, and drains the disks.
  'PIVOTING | guest held, bitmaps to be carried | continues it, and begins anew: a guest is not held for that': (s) =>
    isPivoting(s) && s.job.guestHeld && carries(s) && RELEASE,
  'PIVOTING | guest held for too long | continues the guest after 5 seconds, and tries again 20 seconds later': (s) =>
    isPivoting(s) && s.job.guestHeld && s.asked.has('heldTooLong') && RELEASE,
  'PIVOTING | guest to be paused, much under way | waits until what is under way to the destination can be written in 2.5 seconds, by the pace at which it copies: to pause the guest would wait for it. And until the guest has rested from a hold':
    (s) =>
      isPivoting(s) &&
      pauseBecause(s) !== undefined &&
      (s.asked.has('restsFromHold') || !s.asked.has('stopsSoon')) &&
      meanwhile(s),
  'PIVOTING | guest to be paused, or ready; bitmaps to be carried | carries the bitmaps over': (s) =>
    isPivoting(s) && carries(s) && (pauseBecause(s) !== undefined || !isTooEarly(s)) && { move: 'carry-bitmaps' },
  'PIVOTING | guest to be paused | pauses the guest, and then waits until all is copied': (s) => {
    const because = isPivoting(s) ? pauseBecause(s) : undefined;
    return because !== undefined && { move: 'hold-guest', because };
  },
  'PIVOTING | standby, not all written, or asked already | waits': (s) =>
    isPivoting(s) && isTooEarly(s) && meanwhile(s),
  'PIVOTING | ready | asks QEMU for the pivot (`job-complete`)': (s) =>
    isPivoting(s) && once(s, 'complete', { execute: 'job-complete', arguments: { id: s.job.accepted.job } }),
};
