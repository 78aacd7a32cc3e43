/**
 * What to do next about a job: a pure function of what its journal says and of what QEMU says. The same table
 * serves the job that runs undisturbed and the one that an agent finds after a restart, since neither is told
 * apart by anything but these two.
 *
 *  job                       QEMU                                  move
 *  ------------------------  ------------------------------------  -----------------------------------------
 *  guest held                concluded, or paused on an error      release the guest
 *  STARTING                  has no mirror, or it failed at once   undo the start
 *  STARTING                  mirror has not got going yet          wait a little
 *  STARTING                  runs the mirror                       record running
 *  concluded is written      —                                     settle: dismiss, close, end
 *  any                       concluded | job gone | process gone   record concluded
 *  RUNNING, CANCELLING       ready or standby                      record ready
 *  RUNNING, READY, PIVOTING  paused on an error | goes on          record paused | resumed
 *  CANCELLING                still there                           ask QEMU to end it (once a connection)
 *  READY, on_ready           —                                     record pivot- or finish-requested
 *  PIVOTING                  ready, guest to be paused             hold the guest
 *  PIVOTING                  ready                                 job-complete (once a connection)
 *  PIVOTING                  standby, or under way                 wait
 */
import type { Failure } from './errors.ts';
import { failure } from './errors.ts';
import type { Job } from './job.ts';
import type { Concluded, DeviceOn, EntryBody } from './journal-entry.ts';
import type { QmpCommand } from './qemu/commands.ts';
import type { QemuJobStatus } from './qemu/replies.ts';

/** What QEMU says of one job, asked at one moment. */
export type Seen =
  /** The process that ran the job has ended. */
  | { readonly qemu: 'ENDED'; readonly devicePath: string | undefined }
  | {
      readonly qemu: 'UP';
      readonly job:
        | {
            readonly status: QemuJobStatus;
            readonly error: string | undefined;
            readonly ioStatus: 'ok' | 'failed' | 'nospace';
            /** It knows how much there is to copy: the checks that QEMU makes after its answer are behind it. */
            readonly begun: boolean;
          }
        | undefined;
      readonly deviceOn: DeviceOn;
      readonly devicePath: string | undefined;
      /** The guest is running (query-status). */
      readonly guestRuns: boolean;
    };

/** What was already done about the job over this connection, and for how long it has been as it is. */
export interface Asked {
  readonly complete: boolean;
  readonly end: boolean;
  /** The state has lasted too long: a start that does not get going, a pivot that finds no moment without dirt. */
  readonly overdue: boolean;
}

export type Move =
  | { readonly move: 'wait' }
  | { readonly move: 'record'; readonly entry: EntryBody }
  | { readonly move: 'undo-start' }
  | { readonly move: 'hold-guest'; readonly because: string }
  | { readonly move: 'release-guest' }
  | { readonly move: 'command'; readonly command: QmpCommand; readonly asks: 'complete' | 'end' }
  | { readonly move: 'settle' };

const WAIT: Move = { move: 'wait' };

export function nextMove(job: Job, seen: Seen, asked: Asked): Move {
  if (job.concluded !== undefined) {
    return job.guestHeld && seen.qemu === 'UP' ? { move: 'release-guest' } : { move: 'settle' };
  }
  if (job.state === 'STARTING') return start(seen, asked);
  const concluded = conclusion(seen);
  if (concluded !== undefined) return { move: 'record', entry: concluded };
  if (seen.qemu === 'ENDED' || seen.job === undefined) return WAIT;

  const { status, ioStatus } = seen.job;
  const settled = status === 'ready' || status === 'standby';
  if (settled && job.readyTime === undefined) return { move: 'record', entry: { entry: 'ready' } };

  const pause = ioStatus === 'ok' ? undefined : ioStatus === 'nospace' ? 'NO_SPACE' : 'IO_ERROR';
  if (pause !== job.pauseReason && job.state !== 'CANCELLING') {
    return {
      move: 'record',
      entry: pause === undefined ? { entry: 'resumed' } : { entry: 'paused', reason: pause },
    };
  }
  switch (job.state) {
    case 'READY':
      return pause === undefined ? onReady(job) : WAIT;
    case 'CANCELLING':
      return cancel(job, settled, asked);
    case 'PIVOTING':
      if (pause !== undefined) return job.guestHeld ? { move: 'release-guest' } : WAIT;
      return pivot(job, status, seen.guestRuns, asked);
    default:
      return WAIT;
  }
}

function start(seen: Seen, asked: Asked): Move {
  if (seen.qemu === 'ENDED' || seen.job === undefined || seen.job.status === 'null') return { move: 'undo-start' };
  // QEMU checks some things, as the sizes, only after it has answered: that is still a refusal.
  if (seen.job.status === 'concluded' && seen.job.error !== undefined) return { move: 'undo-start' };
  if (!seen.job.begun && !asked.overdue) return WAIT;
  return { move: 'record', entry: { entry: 'running' } };
}

function conclusion(seen: Seen): Concluded | undefined {
  const { devicePath } = seen;
  if (seen.qemu === 'ENDED') {
    return { entry: 'concluded', how: 'QEMU_ENDED', qemuError: undefined, deviceOn: 'NOWHERE', devicePath };
  }
  const where = { deviceOn: seen.deviceOn, devicePath };
  if (seen.job === undefined || seen.job.status === 'null') {
    return { entry: 'concluded', how: 'VANISHED', qemuError: undefined, ...where };
  }
  if (seen.job.status === 'concluded') {
    return { entry: 'concluded', how: 'CONCLUDED', qemuError: seen.job.error, ...where };
  }
  return undefined;
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

function cancel(job: Job, settled: boolean, asked: Asked): Move {
  if (asked.end) return WAIT;
  const force = job.intent?.entry === 'cancel-requested' && job.intent.force;
  // Only the unforced cancel after READY leaves a complete copy; QEMU refuses it while the job is paused.
  const soft = settled && !force && job.pauseReason === undefined;
  const { job: id } = job.accepted;
  return {
    move: 'command',
    asks: 'end',
    command: soft
      ? { execute: 'block-job-cancel', arguments: { device: id, force: false } }
      : { execute: 'job-cancel', arguments: { id } },
  };
}

function pivot(job: Job, status: QemuJobStatus, guestRuns: boolean, asked: Asked): Move {
  if (status === 'waiting' || status === 'pending' || status === 'aborting') return WAIT;
  const because = pauseBecause(job, asked.overdue);
  if (because !== undefined && guestRuns && !(asked.complete && job.guestHeld)) return { move: 'hold-guest', because };
  // standby is a drain by somebody else and passes; a completion asked for now would wait for it anyway.
  if (asked.complete || status !== 'ready') return WAIT;
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
      return job.accepted.pauseGuestBecause ?? (overdue ? 'the guest writes faster than the copy follows' : undefined);
  }
}

/** The last entry of a job that has concluded: its state, by what was asked for and what is proved. */
export function ending(
  job: Job,
  concluded: Concluded,
): { state: 'COMPLETED' | 'CANCELLED' | 'FAILED' | 'UNRESOLVED'; failure: Failure | undefined } {
  const id = job.accepted.job;
  const lost = (why: string) => failure('JOB_LOST', { job: id, why });
  if (concluded.deviceOn === 'DESTINATION') return { state: 'COMPLETED', failure: undefined };

  if (concluded.how === 'QEMU_ENDED') {
    const why = 'the QEMU process has ended';
    // With a pivot under way, nothing on disk tells which side the guest wrote to last.
    return { state: job.state === 'PIVOTING' ? 'UNRESOLVED' : 'FAILED', failure: lost(why) };
  }
  if (concluded.deviceOn !== 'SOURCE') {
    const why = concluded.deviceOn === 'NOWHERE' ? 'the disk was unplugged' : 'the disk is on another image';
    return { state: concluded.deviceOn === 'NOWHERE' ? 'FAILED' : 'UNRESOLVED', failure: lost(why) };
  }
  if (concluded.how === 'VANISHED') {
    const asked = job.intent?.entry === 'cancel-requested';
    return { state: asked ? 'CANCELLED' : 'FAILED', failure: lost('another client dismissed it') };
  }
  if (concluded.qemuError === undefined) {
    if (job.intent?.entry === 'finish-requested') return { state: 'COMPLETED', failure: undefined };
    if (job.intent?.entry === 'cancel-requested') return { state: 'CANCELLED', failure: undefined };
    return { state: 'CANCELLED', failure: lost('another client ended it without a pivot') };
  }
  if (concluded.qemuError === 'Operation canceled') {
    const asked = job.intent?.entry === 'cancel-requested';
    return { state: 'CANCELLED', failure: asked ? undefined : lost('another client cancelled it') };
  }
  return { state: 'FAILED', failure: failureOf(job, concluded.qemuError) };
}

function failureOf(job: Job, qemuText: string): Failure {
  if (/no space left/i.test(qemuText)) {
    return failure('NO_SPACE', { path: job.accepted.destination.path, why: qemuText });
  }
  return failure('QEMU_REFUSED', { doing: 'copying', qemuText });
}
