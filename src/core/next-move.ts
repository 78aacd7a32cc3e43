/**
 * What to do next about a job: a pure function of what its journal says and of what QEMU says. The same table
 * serves the job that runs undisturbed and the one that an agent finds after a restart, since neither is told
 * apart by anything but these two.
 *
 *  job                       QEMU                                  move
 *  ------------------------  ------------------------------------  -----------------------------------------
 *  to be ended by force      a network destination, maybe hung     yank it, whatever else is waited for (urgent-move)
 *  to be ended by force      silent for too long                   record concluded: given up
 *  concluded, given up       silent for too long                   leave: sync, end; what QEMU has stays
 *  any                       silent                                wait
 *  guest held far too long   waits for a network destination       yank all copies' that no guest is on (urgent-move)
 *  asked to end              over the network, nothing left, stuck yank it (urgent-move)
 *  guest held                the job is over                       record concluded, then release the guest
 *  guest held                no end under way, or it is paused     release the guest
 *  STARTING                  has no job, or it failed at once      undo the start
 *  STARTING                  job has not got going yet             wait a little
 *  STARTING                  runs the job                          record running
 *  concluded is written      —                                     settle: sync, dismiss, close, delete, end
 *  RUNNING, pull or commit   pending: all is moved                 flush the data; then job-finalize
 *  its flush has failed      pending                               job-cancel: the old images stay
 *  pull or commit            concluded | job gone                  flush the header, then read it back
 *  any                       concluded | job gone | it has ended   record concluded
 *  RUNNING, CANCELLING       ready or standby                      record ready
 *  not PIVOTING              the guest migrates                    wait, or break off if it is to be
 *  running                   another limit, paused, goes on        record speed | paused | resumed
 *  its time is over          still there                           record cancel-requested
 *  its connection is broken  still there                           record cancel-requested, by force
 *  CANCELLING, not by force  ready                                 record followed, then ask QEMU to end it
 *  CANCELLING                still there                           ask QEMU to end it (once a connection)
 *  CANCELLING, BLOCKING      to be broken off                      hold the guest first
 *  PIVOTING                  the guest migrates, or is another's   release it, and wait
 *  PIVOTING                  the destination's file has moved      record cancel-requested: the guest stays
 *  PIVOTING                  guest to be paused, much under way    wait
 *  PIVOTING                  ready, guest to be paused             carry the bitmaps over, hold the guest, wait for the rest
 *  PIVOTING                  guest held, bitmaps to be carried     release it, and begin anew
 *  PIVOTING                  guest held for too long               release it, and try again later
 *  PIVOTING                  ready                                 carry the bitmaps over, then job-complete
 *  PIVOTING                  standby, or under way                 wait
 *  other limit, pause wanted on its way out, or refuses it         record change-refused
 *  other limit, pause wanted not so yet                            set-speed, job-pause, job-resume (once)
 *  READY, on_ready           —                                     record pivot- or finish-requested
 */

import { conclusion, isWithoutQemu, unseen } from './conclusion.ts';
import { finalize, proveHeader } from './handover-moves.ts';
import type { Job } from './job.ts';
import { isOverNetwork } from './job-facts.ts';
import type { PauseReason } from './journal-entry.ts';
import type { Asked, Move, Seen, SeenJob } from './moves.ts';
import type { QemuJobStatus } from './qemu/replies.ts';
import { observed, pauseOf, resume, takesChanges, wished } from './wishes.ts';

export type { Asked, Asking, Move, Seen } from './moves.ts';

const WAIT: Move = { move: 'wait' };

export function nextMove(job: Job, seen: Seen, asked: Asked): Move {
  if (seen.qemu === 'SILENT') return silent(job, asked);
  const isBlocking = job.accepted.options.writeMode === 'BLOCKING';
  const concluded = conclusion(job, seen);
  // The guest does not wait for a journal that cannot be written.
  const mayBeHeld = !asked.heldTooLong || (job.state === 'PIVOTING' && concluded === undefined);
  // What has become of a job is written down before its guest goes on, also where a service that died has held it.
  const hasToBeWritten = concluded !== undefined && job.state !== 'STARTING';
  const isHeldFor = job.state === 'PIVOTING' || (job.state === 'CANCELLING' && isBlocking) || hasToBeWritten;
  const isEnding = isHeldFor && mayBeHeld;
  if (job.guestHeld && !(isEnding && job.concluded === undefined) && seen.qemu === 'UP') {
    return { move: 'release-guest' };
  }
  if (job.concluded !== undefined) return { move: 'settle' };
  if (job.state === 'STARTING') return start(job, seen, asked);
  if (concluded !== undefined) return proveHeader(job, seen, concluded) ?? { move: 'record', entry: concluded };
  if (seen.qemu === 'ENDED' || seen.job === undefined) return WAIT;
  if (job.accepted.destination === undefined && job.state === 'RUNNING' && seen.job.status === 'pending') {
    const move = seen.guestMigrates ? WAIT : finalize(job, asked);
    return move.move === 'wait' ? wished(job, undefined, 'pending', asked) : move;
  }

  const settled = seen.job.status === 'ready' || seen.job.status === 'standby';
  // What is copied after the guest has left is of no moment of its disk.
  if (settled && job.readyTime === undefined && !seen.guestMigrates)
    return { move: 'record', entry: { entry: 'ready', seenAt: seen.at } };

  if (asked.timeIsUp && isTimeBound(job)) {
    const force = job.state === 'PIVOTING';
    return { move: 'record', entry: { entry: 'cancel-requested', force, timeIsUp: true } };
  }
  // QEMU itself finds out when it next writes there, and until then such a copy looks READY.
  if (asked.connectionBroken && job.state !== 'CANCELLING' && !asked.complete) {
    return { move: 'record', entry: { entry: 'cancel-requested', force: true, connectionBroken: true } };
  }
  const pause = pauseOf(seen.job, job.pauseReason);
  const entry = observed(job, pause, seen.job.speedBytesPerSecond, asked);
  if (entry !== undefined) return { move: 'record', entry };
  // An end that was asked for comes before any change: one that QEMU does not take would keep it away for ever.
  const end = endOf(job, { ...seen, job: seen.job, settled, pause }, asked);
  if (end.move !== 'wait') return end;
  const change = wished(job, pause, seen.job.status, asked);
  if (change.move !== 'wait') return change;
  return job.state === 'READY' && pause === undefined && !seen.guestMigrates ? onReady(job) : WAIT;
}

/** What QEMU says of a job that it has, and what follows from that. */
interface Now extends Extract<Seen, { qemu: 'UP' }> {
  readonly job: SeenJob;
  readonly settled: boolean;
  readonly pause: PauseReason | undefined;
}

/** What leads to the end that was asked for; `wait`: none was, or nothing is to be done for it now. */
function endOf(job: Job, now: Now, asked: Asked): Move {
  if (job.state === 'CANCELLING') return cancel(job, now, asked);
  if (job.state !== 'PIVOTING') return WAIT;
  if (now.pause === 'USER') return takesChanges(now.job.status) ? resume(job, asked) : WAIT;
  if (now.pause !== undefined) return job.guestHeld ? { move: 'release-guest' } : WAIT;
  // Where the guest is to go on the source has been opened: all that it wrote after a pivot would be missing there.
  if ((now.guestMigrates || asked.fenced) && !asked.complete) return job.guestHeld ? { move: 'release-guest' } : WAIT;
  if (asked.destinationMoved && !asked.complete) {
    return { move: 'record', entry: { entry: 'cancel-requested', force: true, destinationMoved: true } };
  }
  return pivot(job, now.job, now.guestRuns, asked);
}

/** Nothing is known of QEMU, and so nothing is concluded from it: it may run the job, and come back. */
function silent({ concluded }: Job, { givenUp }: Asked): Move {
  if (concluded !== undefined && isWithoutQemu(concluded)) return { move: 'settle' };
  if (!givenUp) return WAIT;
  return concluded === undefined ? { move: 'record', entry: unseen('GIVEN_UP') } : { move: 'leave' };
}

/** With HOLD the limit is for READY, else for the end. */
function isTimeBound({ state, accepted: { options } }: Job): boolean {
  return state === 'RUNNING' || (options.onReady !== 'HOLD' && (state === 'READY' || state === 'PIVOTING'));
}

function start(job: Job, seen: Exclude<Seen, { readonly qemu: 'SILENT' }>, asked: Asked): Move {
  const running: Move = { move: 'record', entry: { entry: 'running' } };
  // The job may have run, and been completed by another client: then the destination is no rubbish of a start.
  const last = job.steps.get(job.accepted.plan.at(-1)?.name ?? '');
  const mayHaveRun = last === 'STARTED' || last === 'DONE' || last === 'UNKNOWN';
  if (seen.qemu === 'ENDED') return mayHaveRun ? running : { move: 'undo-start' };
  if (seen.deviceOn === 'DESTINATION' || (seen.deviceOn !== 'SOURCE' && mayHaveRun)) return running;
  if (seen.job === undefined || seen.job.status === 'null') return { move: 'undo-start' };
  // QEMU checks some things, as the sizes, only after it has answered: that is still a refusal.
  if (seen.job.status === 'concluded' && seen.job.error !== undefined) return { move: 'undo-start' };
  return seen.job.begun || asked.overdue ? running : WAIT;
}

function onReady(job: Job): Move {
  const { onReady: then, pauseGuest } = job.accepted.options;
  switch (then) {
    case 'HOLD':
      return WAIT;
    case 'PIVOT':
      return { move: 'record', entry: { entry: 'pivot-requested', pauseGuest } };
    case 'FINISH':
      return { move: 'record', entry: { entry: 'finish-requested' } };
  }
}

const BLOCKING_FAULT = 'QEMU can crash when a blocking copy is broken off under a busy guest (seen with QEMU 7.2)';

function cancel(job: Job, now: Now, asked: Asked): Move {
  const { job: id, options, destination } = job.accepted;
  const { settled, pause } = now;
  const { status } = now.job;
  const intent = job.intent?.entry === 'cancel-requested' ? job.intent : undefined;
  const force = intent?.force === true;
  if (status === 'aborting') return WAIT;
  // The end of a copy that was asked for softly, and is under way: a cancel now would make rubbish of it.
  if (!force && destination !== undefined && (status === 'waiting' || status === 'pending')) return WAIT;
  if (settled && !force && now.guestMigrates) return WAIT;
  // Only the unforced cancel after READY leaves a complete copy; a job that is paused refuses it, or waits in it.
  if (settled && !force && pause === 'USER') return resume(job, asked);
  if (settled && !force && pause === undefined) {
    // Another client may have ended it before we do: what is claimed of the copy is only what was seen.
    if (!job.followedSinceAsked) return { move: 'record', entry: { entry: 'followed', seenAt: now.at } };
    const command = { execute: 'block-job-cancel', arguments: { device: id, force: false } } as const;
    return asked.end ? WAIT : { move: 'command', asks: 'end', command };
  }
  // A copy that is to be finished is worth waiting for.
  if (settled && job.intent?.entry === 'finish-requested') return WAIT;
  if (asked.forceEnd) return WAIT;
  const pauseGuest = intent?.pauseGuest ?? options.pauseGuest;
  if (options.writeMode === 'BLOCKING' && pauseGuest !== 'NEVER' && now.guestRuns) {
    return asked.restsFromHold || now.guestMigrates ? WAIT : { move: 'hold-guest', because: BLOCKING_FAULT };
  }
  return { move: 'command', asks: 'forceEnd', command: { execute: 'job-cancel', arguments: { id } } };
}

function pivot(
  job: Job,
  { status, remainingBytes }: { status: QemuJobStatus; remainingBytes: number },
  guestRuns: boolean,
  asked: Asked,
): Move {
  if (status === 'waiting' || status === 'pending' || status === 'aborting') return WAIT;
  const carries = job.accepted.destination?.format === 'QCOW2' && !asked.bitmaps && !asked.complete;
  // That waits for others' formats, and drains the disks: no guest is held for it.
  if (job.guestHeld && (asked.heldTooLong || carries)) return { move: 'release-guest' };
  const because = pauseBecause(job, asked.overdue);
  if (because !== undefined && guestRuns && !(asked.complete && job.guestHeld)) {
    if (asked.restsFromHold || !asked.stopsSoon) return WAIT;
    return carries ? { move: 'carry-bitmaps' } : { move: 'hold-guest', because };
  }
  // standby is a drain by somebody else and passes; a completion asked for now would wait for it anyway.
  if (asked.complete || status !== 'ready') return WAIT;
  // QEMU 10 and newer answer nothing any more if a destination hangs at this.
  if (isOverNetwork(job) && !asked.stopsSoon) return WAIT;
  // A completion cannot be taken back, and waits for the rest: with a paused guest the rest comes first, in bounds.
  if (job.guestHeld && remainingBytes > 0) return WAIT;
  if (carries) return { move: 'carry-bitmaps' };
  return {
    move: 'command',
    asks: 'complete',
    command: { execute: 'job-complete', arguments: { id: job.accepted.job } },
  };
}

/** Why the guest is to be paused for the instant of this pivot; undefined: it runs on. */
function pauseBecause(job: Job, overdue: boolean): string | undefined {
  const pauseGuest = job.intent?.entry === 'pivot-requested' ? job.intent.pauseGuest : 'NEVER';
  switch (pauseGuest) {
    case 'NEVER':
      return undefined;
    case 'ALWAYS':
      return 'asked for by pause_guest ALWAYS';
    case 'AUTO':
      if (job.accepted.pauseGuestBecause !== undefined) return job.accepted.pauseGuestBecause;
      if (!overdue || job.accepted.holdsWithoutBound === true) return undefined;
      return 'the guest writes faster than the copy follows';
  }
}
