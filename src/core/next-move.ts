/**
 * What to do next about a job: a pure function of what its journal says and of what QEMU says. The same table
 * serves the job that runs undisturbed and the one that an agent finds after a restart, since neither is told
 * apart by anything but these two.
 *
 *  job                       QEMU                                  move
 *  ------------------------  ------------------------------------  -----------------------------------------
 *  to be ended by force      a network destination, maybe hung     yank it, before anything is asked (urgent-move)
 *  guest held                no end under way, or it is paused     release the guest
 *  STARTING                  has no job, or it failed at once      undo the start
 *  STARTING                  job has not got going yet             wait a little
 *  STARTING                  runs the job                          record running
 *  concluded is written      —                                     settle: dismiss, close, end
 *  any                       concluded | job gone | process gone   record concluded
 *  RUNNING, CANCELLING       ready or standby                      record ready
 *  not PIVOTING              the guest migrates                    wait, or break off if it is to be
 *  running                   another limit, paused, goes on        record speed | paused | resumed
 *  RUNNING, a pull           pending: all is read                  hold the guest, flush (`stop` does), job-finalize
 *  other limit, pause wanted not so yet                            set-speed, job-pause, job-resume (once)
 *  its time is over          still there                           record cancel-requested
 *  CANCELLING, not by force  ready                                 record followed, then ask QEMU to end it
 *  CANCELLING                still there                           ask QEMU to end it (once a connection)
 *  CANCELLING, BLOCKING      to be broken off                      hold the guest first
 *  READY, on_ready           —                                     record pivot- or finish-requested
 *  PIVOTING                  the guest migrates, or is another's   release it, and wait
 *  PIVOTING                  ready, guest to be paused             hold the guest, and wait for the rest
 *  PIVOTING                  guest held for too long               release it, and try again later
 *  PIVOTING                  ready                                 carry the bitmaps over, then job-complete
 *  PIVOTING                  standby, or under way                 wait
 */

import { conclusion } from './conclusion.ts';
import { isOverNetwork, type Job } from './job.ts';
import type { PauseReason } from './journal-entry.ts';
import type { Asked, Move, Seen } from './moves.ts';
import type { QemuJobStatus } from './qemu/replies.ts';

export type { Asked, Asking, Move, Seen } from './moves.ts';

const WAIT: Move = { move: 'wait' };

export function nextMove(job: Job, seen: Seen, asked: Asked): Move {
  const isPending = seen.qemu === 'UP' && seen.job?.status === 'pending';
  if (job.accepted.kind === 'PULL' && job.state === 'RUNNING' && isPending && job.concluded === undefined) {
    return seen.guestMigrates ? WAIT : finalize(job, seen.guestRuns, asked);
  }
  const isBlocking = job.accepted.options.writeMode === 'BLOCKING';
  const concluded = conclusion(job, seen);
  // The guest does not wait for a journal that cannot be written.
  const mayBeHeld = !asked.heldTooLong || (job.state === 'PIVOTING' && concluded === undefined);
  const isEnding = (job.state === 'PIVOTING' || (job.state === 'CANCELLING' && isBlocking)) && mayBeHeld;
  if (job.guestHeld && !(isEnding && job.concluded === undefined) && seen.qemu === 'UP') {
    return { move: 'release-guest' };
  }
  if (job.concluded !== undefined) return { move: 'settle' };
  if (job.state === 'STARTING') return start(job, seen, asked);
  if (concluded !== undefined) return { move: 'record', entry: concluded };
  if (seen.qemu === 'ENDED' || seen.job === undefined) return WAIT;

  const settled = seen.job.status === 'ready' || seen.job.status === 'standby';
  // What is copied after the guest has left is of no moment of its disk.
  if (settled && job.readyTime === undefined && !seen.guestMigrates)
    return { move: 'record', entry: { entry: 'ready', seenAt: seen.at } };

  if (asked.timeIsUp && isTimeBound(job)) {
    const force = job.state === 'PIVOTING';
    return { move: 'record', entry: { entry: 'cancel-requested', force, timeIsUp: true } };
  }
  const pause = pauseOf(seen.job);
  const change = changeOf(job, pause, seen.job.speedBytesPerSecond, asked);
  if (change !== undefined) return change;
  switch (job.state) {
    case 'READY':
      return pause === undefined && !seen.guestMigrates ? onReady(job) : WAIT;
    case 'CANCELLING':
      return cancel(job, { ...seen, settled, pause }, asked);
    case 'PIVOTING':
      if (pause === 'USER') return resume(job, asked);
      if (pause !== undefined) return job.guestHeld ? { move: 'release-guest' } : WAIT;
      // Where the guest is to go on the source has been opened: all that it wrote after a pivot would be missing there.
      if ((seen.guestMigrates || asked.fenced) && !asked.complete)
        return job.guestHeld ? { move: 'release-guest' } : WAIT;
      return pivot(job, seen.job, seen.guestRuns, asked);
    default:
      return WAIT;
  }
}

/** With HOLD the limit is for READY, else for the end. */
function isTimeBound({ state, accepted: { options } }: Job): boolean {
  return state === 'RUNNING' || (options.onReady !== 'HOLD' && (state === 'READY' || state === 'PIVOTING'));
}

function pauseOf({ paused, ioStatus }: { paused: boolean; ioStatus: 'ok' | 'failed' | 'nospace' }) {
  if (!paused) return undefined;
  return ioStatus === 'ok' ? 'USER' : ioStatus === 'nospace' ? 'NO_SPACE' : 'IO_ERROR';
}

/** What callers want otherwise, and what others have made otherwise, in a job that goes on. */
function changeOf(job: Job, pause: PauseReason | undefined, speed: number, asked: Asked): Move | undefined {
  const { job: id } = job.accepted;
  const { wantsBandwidth, wantsPaused } = job;
  if (wantsBandwidth !== undefined) {
    if (asked.speed) return undefined;
    const command = { execute: 'block-job-set-speed', arguments: { device: id, speed: wantsBandwidth } } as const;
    const proves = { entry: 'speed', bandwidthBytesPerSecond: wantsBandwidth } as const;
    return { move: 'command', asks: 'speed', command, proves };
  }
  if (speed !== job.bandwidthBytesPerSecond) {
    return { move: 'record', entry: { entry: 'speed', bandwidthBytesPerSecond: speed } };
  }
  if (wantsPaused === true && pause === undefined) {
    if (asked.pause) return undefined;
    const command = { execute: 'job-pause', arguments: { id } } as const;
    return { move: 'command', asks: 'pause', command, proves: { entry: 'paused', reason: 'USER' } };
  }
  if (wantsPaused === false && pause !== undefined) return resume(job, asked);
  if (pause === job.pauseReason && wantsPaused === undefined) return undefined;
  if (pause === 'USER' && wantsPaused === undefined && !asked.pauseLasts) return undefined;
  return { move: 'record', entry: pause === undefined ? { entry: 'resumed' } : { entry: 'paused', reason: pause } };
}

/** Without room a job that was paused for want of it pauses again at once; that it was resumed is true all the same. */
function resume(job: Job, asked: Asked): Move {
  if (asked.resume) return WAIT;
  const command = { execute: 'job-resume', arguments: { id: job.accepted.job } } as const;
  return { move: 'command', asks: 'resume', command, proves: { entry: 'resumed' } };
}

function start(job: Job, seen: Seen, asked: Asked): Move {
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

/** The pull is all but done: what it wrote is flushed before the image lets go of those that had it. */
function finalize(job: Job, guestRuns: boolean, asked: Asked): Move {
  const { job: id } = job.accepted;
  if (asked.finalize) return WAIT;
  if (asked.flush) {
    return { move: 'command', asks: 'finalize', command: { execute: 'job-finalize', arguments: { id } } };
  }
  if (guestRuns) return { move: 'hold-guest', because: 'what was pulled is flushed before the old images are left' };
  return { move: 'command', asks: 'flush', command: { execute: 'stop' } };
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

function cancel(
  job: Job,
  now: {
    readonly settled: boolean;
    readonly pause: PauseReason | undefined;
    readonly at: string;
    readonly guestRuns: boolean;
    readonly guestMigrates: boolean;
  },
  asked: Asked,
): Move {
  const { job: id, options } = job.accepted;
  const { settled, pause } = now;
  const intent = job.intent?.entry === 'cancel-requested' ? job.intent : undefined;
  const force = intent?.force === true;
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
  if (job.guestHeld && asked.heldTooLong) return { move: 'release-guest' };
  const because = pauseBecause(job, asked.overdue);
  if (because !== undefined && guestRuns && !(asked.complete && job.guestHeld)) {
    return asked.restsFromHold ? WAIT : { move: 'hold-guest', because };
  }
  // standby is a drain by somebody else and passes; a completion asked for now would wait for it anyway.
  if (asked.complete || status !== 'ready') return WAIT;
  // A completion cannot be taken back, and waits for the rest: with a paused guest the rest comes first, in bounds.
  if (job.guestHeld && remainingBytes > 0) return WAIT;
  if (job.accepted.destination?.format === 'QCOW2' && !asked.bitmaps) return { move: 'carry-bitmaps' };
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
      // `stop` waits for a network destination that hangs, for good.
      if (!overdue || isOverNetwork(job)) return undefined;
      return 'the guest writes faster than the copy follows';
  }
}
