/**
 * What to do next about a job: a pure function of what its journal says and of what QEMU says. The same table serves the
 * job that runs undisturbed and the one that an agent finds after a restart, since neither is told apart by anything but
 * these two. Of its rows, in their order, the first that fits is the move. docs/recovery.md shows all of them.
 */

import type { Job } from '../job/job.ts';
import { isWithoutQemu } from '../job/job-facts.ts';
import { CANCEL_ROWS } from './cancel-rows.ts';
import { unseen } from './conclusion.ts';
import { flushHeader, HANDOVER_ROWS } from './handover-rows.ts';
import type { Asked, Move, QemuRefusals, Seen } from './moves.ts';
import { PIVOT_ROWS } from './pivot-rows.ts';
import { firstOf, inOrder, type Row } from './rows.ts';
import { type Going, goingOf, RELEASE, type Rows, record, type Situation, situationOf, WAIT } from './situation.ts';
import { URGENT } from './urgent-move.ts';
import { change, observed, refusedChange } from './wishes.ts';

const RUNNING: Move = record({ entry: 'running' });

const isHeld = ({ job, seen }: Situation) => job.guestHeld && seen.qemu === 'UP';

/** In these an end is under way: the guest is held for it, and goes on when it has come. */
function isHeldFor({ job, state, asked }: Situation): boolean {
  if (job.concluded !== undefined) return false;
  const isBlocking = job.accepted.options.writeMode === 'BLOCKING';
  return state === 'PIVOTING' || (state === 'CANCELLING' && isBlocking && !asked.has('heldTooLong'));
}

/** The job may have run, and been completed by another client: then the destination is no rubbish of a start. */
function hasRun({ job, seen }: Situation): boolean {
  const last = job.steps.get(job.accepted.plan.at(-1)?.name ?? '');
  const mayHaveRun = last === 'STARTED' || last === 'DONE' || last === 'UNKNOWN';
  const deviceOn = seen.qemu === 'UP' ? seen.deviceOn : 'NOWHERE';
  return deviceOn === 'DESTINATION' || (deviceOn !== 'SOURCE' && mayHaveRun);
}

/** QEMU checks some things, as the sizes, only after it has answered: that is still a refusal. */
function hasFailed({ seen }: Situation): boolean {
  if (seen.qemu !== 'UP' || seen.job === undefined || seen.job.status === 'null') return true;
  return seen.job.status === 'concluded' && seen.job.error !== undefined;
}

/** With HOLD the limit is for READY, else for the end. */
function isTimeBound({ state, job }: Going): boolean {
  const isForEnd = job.accepted.options.onReady !== 'HOLD';
  return state === 'RUNNING' || (isForEnd && (state === 'READY' || state === 'PIVOTING'));
}

function onReady({ job }: Going): Move | undefined {
  const { onReady: then, pauseGuest } = job.accepted.options;
  switch (then) {
    case 'HOLD':
      return undefined;
    case 'PIVOT':
      return record({ entry: 'pivot-requested', pauseGuest });
    case 'FINISH':
      return record({ entry: 'finish-requested' });
  }
}

const FIRST_ROWS: Rows = {
  'guest held for too long | the job is over, and that cannot be written down | continues the guest': (s) =>
    isHeld(s) && s.unwritten !== undefined && s.asked.has('heldTooLong') && RELEASE,
  'pull or commit | concluded, job gone | has the header flushed, writes down `flushed`, and reads the header back from disk':
    ({ job, seen, unwritten }) => unwritten && flushHeader(job, seen, unwritten),
  // What has become of a job is written down before its guest goes on, also where a service that died has held it.
  'any but STARTING | concluded, job gone, it has ended | writes down `concluded`: how that was seen, and on which image the disk is. Only then a guest that is held goes on':
    ({ unwritten }) => unwritten && record(unwritten),
  'guest held | no end under way, or that takes too long | continues the guest': (s) =>
    isHeld(s) && !isHeldFor(s) && RELEASE,
  '`concluded` is written | answers, or is not needed any more | syncs what was copied, dismisses the job, closes the nodes that nobody uses, removes a file that it made and that never became a copy, deletes what a commit was to delete, and writes down `ended`':
    ({ job: { concluded }, seen }) =>
      concluded !== undefined && (seen.qemu !== 'SILENT' || isWithoutQemu(concluded)) && { move: 'settle' },
  'to be ended by force | silent for too long | writes down `concluded`, GIVEN_UP, 30 seconds after it was asked for; what QEMU has is a leftover, should it come back':
    ({ job, seen, asked }) =>
      seen.qemu === 'SILENT' && asked.has('givenUp') && job.concluded === undefined && record(unseen('GIVEN_UP')),
  'concluded, given up | silent for too long | waits for QEMU no longer, 30 seconds after that was asked for: the file is synced, the job ends as it was concluded, nothing is deleted, and what QEMU still has is a leftover, should it come back':
    ({ seen, asked }) => seen.qemu === 'SILENT' && asked.has('givenUp') && { move: 'leave' },
  'any | silent | waits: nothing is concluded from silence, and QEMU may run the job, and come back': ({ seen }) =>
    seen.qemu === 'SILENT' && WAIT,
  'STARTING | has the disk on the destination; or QEMU has ended, or the disk is elsewhere, when the job may have run | writes down `running`: what the job may have written is not taken back':
    (s) => s.state === 'STARTING' && hasRun(s) && RUNNING,
  'STARTING | has no job, or it failed at once | takes back each step that may have happened, the last one first; the caller gets the reason. So after an Abort, too: no further step is begun':
    (s) => s.state === 'STARTING' && hasFailed(s) && { move: 'undo-start' },
};

const GOING_ROWS: Rows<Going> = {
  'STARTING | job has not got going yet | looks again in 20 milliseconds, for up to a second': (s) =>
    s.state === 'STARTING' && !s.now.begun && !s.asked.has('overdue') && WAIT,
  'STARTING | runs the job | writes down `running`; the caller has its answer': ({ state }) =>
    state === 'STARTING' && RUNNING,
  ...HANDOVER_ROWS,
  'RUNNING, CANCELLING | ready or standby, and the guest does not migrate | writes down `ready`': (s) =>
    s.settled && s.job.ready === undefined && !s.seen.guestMigrates && record({ entry: 'ready', seenAt: s.seen.at }),
  'its time is over | still there | ends it without a pivot: `cancel-requested`': (s) =>
    s.asked.has('timeIsUp') &&
    isTimeBound(s) &&
    record({ entry: 'cancel-requested', force: s.state === 'PIVOTING', timeIsUp: true }),
  // QEMU itself finds out when it next writes there, and until then such a copy looks READY.
  'its connection is broken | still there | breaks it off: `cancel-requested`, by force': ({ state, asked }) =>
    asked.has('connectionBroken') &&
    state !== 'CANCELLING' &&
    !asked.has('complete') &&
    record({ entry: 'cancel-requested', force: true, connectionBroken: true }),
  'running | another limit, paused, goes on | writes down `speed`, `paused` or `resumed`, whoever did it': observed,
  // An end that was asked for comes before any change: one that QEMU does not take would keep it away for ever.
  ...CANCEL_ROWS,
  ...PIVOT_ROWS,
  'other limit, pause wanted | on its way out, or refuses it | writes down `change-refused`: whoever wanted it is told, and QEMU is asked no longer':
    refusedChange,
  'other limit, pause wanted | not so yet | asks QEMU for it, once. So it does, too, while a job waits for its end':
    change,
  'RUNNING, READY | the guest migrates | neither writes `ready` nor begins what `on_ready` wants: what is copied when the guest has left is of no moment of its disk':
    ({ seen }) => seen.guestMigrates && WAIT,
  'READY, on_ready | not paused | writes down `pivot-requested` or `finish-requested`, as `on_ready` wants': (s) =>
    s.state === 'READY' && s.pause === undefined && onReady(s),
  'any | as it is to be | waits': () => WAIT,
};

const [FIRST, GOING] = [inOrder(FIRST_ROWS), inOrder(GOING_ROWS)];

/** All of it. What is urgent is done beside whatever waits for an answer. */
export const TABLE: readonly Pick<Row<never, unknown>, 'job' | 'qemu' | 'does'>[] = [...URGENT, ...FIRST, ...GOING];

/** The first row that fits, and its move. */
export function nextRow(job: Job, seen: Seen, asked: Asked, refused: QemuRefusals) {
  const situation = situationOf(job, seen, asked, refused);
  const going = goingOf(situation);
  return firstOf(FIRST, situation) ?? (going && firstOf(GOING, going));
}

export function nextMove(job: Job, seen: Seen, asked: Asked, refused: QemuRefusals): Move {
  return nextRow(job, seen, asked, refused)?.move ?? WAIT;
}
