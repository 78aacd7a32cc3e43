/** The rows for a job whose guest is to move to the destination. */
import { isOverNetwork } from '../job/job-facts.ts';
import { type Going, RELEASE, type Rows, record } from './situation.ts';
import { meanwhile, once, resume, takesChanges } from './wishes.ts';

/** Why the guest is paused then. */
export const AT_DEADLINE = 'the time limit has expired, and the rest is copied while the guest is paused (at_deadline)';

const isPivoting = ({ state }: Going) => state === 'PIVOTING';

/** Whether QEMU was not asked yet: until then the guest is on its source, and can stay there. */
const isBefore = ({ state, asked }: Going) => state === 'PIVOTING' && !asked.has('complete');

const waitsReleased = (going: Going) => (going.job.guestHeld ? RELEASE : meanwhile(going));

/** The bitmaps must be on the destination before the guest is. */
export function carries({ job, asked }: Going): boolean {
  return job.accepted.destination?.format === 'QCOW2' && !asked.has('bitmaps') && !asked.has('complete');
}

/** Why the guest must be paused for the moment of this pivot; undefined if it need not be, or is paused already. */
function pauseBecause({ job, seen, asked }: Going): string | undefined {
  if (!seen.guestRuns || (asked.has('complete') && job.guestHeld)) return undefined;
  if (job.guestPause === 'DUE') return AT_DEADLINE;
  const pauseGuest = job.intent?.entry === 'pivot-requested' ? job.intent.pauseGuest : 'NEVER';
  switch (pauseGuest) {
    case 'NEVER':
      return undefined;
    case 'ALWAYS':
      return 'pause_guest ALWAYS was requested';
    case 'AUTO':
      if (job.accepted.pauseGuestBecause !== undefined) return job.accepted.pauseGuestBecause;
      if (!asked.has('overdue') || job.accepted.holdsWithoutBound === true) return undefined;
      return 'the guest writes faster than the copy can follow';
  }
}

/** Whether data is still to be written before QEMU may be asked, or QEMU does not take the command yet. */
function isTooEarly({ job, now, asked }: Going): boolean {
  // standby is another client's drain, and passes; a completion requested now would wait for it anyway.
  if (asked.has('complete') || now.status !== 'ready') return true;
  // QEMU 10 and newer stop answering if a destination hangs at this point.
  if (isOverNetwork(job) && !asked.has('stopsSoon')) return true;
  // A completion cannot be undone, and waits for the remaining data: with a paused guest that data is written first.
  return job.guestHeld && now.remainingBytes > 0;
}

export const PIVOT_ROWS: Rows<Going> = {
  'PIVOTING | paused by a client | resumes the job (`job-resume`), as soon as QEMU accepts that': (s) =>
    isPivoting(s) && s.pause === 'USER' && ((takesChanges(s.now.status) ? resume(s) : undefined) ?? meanwhile(s)),
  'PIVOTING | paused by an error | resumes the guest if it is held, and waits until the error is corrected': (s) =>
    isPivoting(s) && s.pause !== undefined && waitsReleased(s),
  // The QEMU to which the guest migrates has opened the source: it would miss all writes after a pivot.
  'PIVOTING | the guest migrates, belongs to another host, or would have no room on the destination | resumes the guest if it is held, and waits: the guest on the other host would not get the writes that follow a pivot, and a guest without room would stop':
    (s) => isBefore(s) && (s.seen.guestMigrates || s.asked.has('fenced')) && waitsReleased(s),
  'PIVOTING | the destination’s file has moved | records `cancel-requested`, by force, because the path of the destination does not lead to its file any more. The VM would not find its disk at its next start':
    (s) =>
      isBefore(s) &&
      s.asked.has('destinationMoved') &&
      record({ entry: 'cancel-requested', force: true, destinationMoved: true }),
  'PIVOTING | the pivot is in progress | waits': (s) =>
    isPivoting(s) && ['waiting', 'pending', 'aborting'].includes(s.now.status) && meanwhile(s),
  // Carrying them over waits for other clients' format jobs, and drains the disks.
  'PIVOTING | guest held, dirty bitmaps not copied to the destination yet | resumes the guest, and begins the pivot again. The guest must not be held meanwhile, because the copying may have to wait':
    (s) => isPivoting(s) && s.job.guestHeld && carries(s) && RELEASE,
  'PIVOTING | guest held too long | resumes the guest after 5 seconds, and tries again 20 seconds later': (s) =>
    isPivoting(s) && s.job.guestHeld && s.asked.has('heldTooLong') && RELEASE,
  'PIVOTING | guest to be paused, much data in flight | waits until QEMU can write the data in flight within 2.5 seconds at the present speed, because QEMU writes this data before it pauses the guest. It also waits if the guest was held a short time ago':
    (s) =>
      isPivoting(s) &&
      pauseBecause(s) !== undefined &&
      (s.asked.has('restsFromHold') || !s.asked.has('stopsSoon')) &&
      meanwhile(s),
  'PIVOTING | guest to be paused, or ready; dirty bitmaps not copied to the destination yet | copies the dirty bitmaps to the destination':
    (s) =>
      isPivoting(s) && carries(s) && (pauseBecause(s) !== undefined || !isTooEarly(s)) && { move: 'carry-bitmaps' },
  'PIVOTING | guest to be paused | pauses the guest, and then waits until all data is copied': (s) => {
    const because = isPivoting(s) ? pauseBecause(s) : undefined;
    return because !== undefined && { move: 'hold-guest', because };
  },
  'PIVOTING | standby, data still in flight, or already asked to pivot | waits': (s) =>
    isPivoting(s) && isTooEarly(s) && meanwhile(s),
  'PIVOTING | ready | asks QEMU for the pivot (`job-complete`)': (s) =>
    isPivoting(s) && once(s, 'complete', { execute: 'job-complete', arguments: { id: s.job.accepted.job } }),
};
