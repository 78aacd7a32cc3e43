/**
 * The next action for a job: a pure function of its journal and of QEMU's state. One table serves both an undisturbed
 * job and a job that an agent finds after a restart, because only these two decide. The first row that fits is the
 * move. docs/recovery.md shows all rows.
 */

import { writeModeOf } from '../job/end-policy.ts';
import type { Job } from '../job/job.ts';
import { isTimeBound, isWithoutQemu } from '../job/job-facts.ts';
import { isGated, mayPivot } from '../job/pivot-gate.ts';
import { CANCEL_ROWS } from './cancel-rows.ts';
import { unseen } from './conclusion.ts';
import { DEADLINE_ROWS, isHeldAtDeadline } from './deadline-rows.ts';
import { flushHeader, HANDOVER_ROWS } from './handover-rows.ts';
import type { Asked, Move, QemuRefusals, Seen } from './moves.ts';
import { PIVOT_ROWS } from './pivot-rows.ts';
import { firstOf, inOrder, type Row } from './rows.ts';
import { type Going, goingOf, RELEASE, type Rows, record, type Situation, situationOf, WAIT } from './situation.ts';
import { LIFT_ROWS, THROTTLE_ROWS } from './throttle-rows.ts';
import { URGENT } from './urgent-move.ts';
import { change, observed, pauseFor, refusedChange, resume, takesChanges } from './wishes.ts';

const RUNNING: Move = record({ entry: 'running' });

const isHeld = ({ job, seen }: Situation) => job.guestHeld && seen.qemu === 'UP';

/** In these states an end is in progress: the guest is held for it, and resumed afterwards. */
function isHeldFor({ job, state, asked }: Situation): boolean {
  if (job.concluded !== undefined) return false;
  const isBlocking = writeModeOf(job) === 'BLOCKING';
  if (state === 'PIVOTING') return true;
  if (asked.has('heldTooLong')) return false;
  return (state === 'CANCELLING' && isBlocking) || isHeldAtDeadline(job);
}

/** Whether the job may have run, and another client completed it: then the destination must not be removed. */
function hasRun({ job, seen }: Situation): boolean {
  const last = job.steps.get(job.accepted.plan.at(-1)?.name ?? '');
  const mayHaveRun = last === 'STARTED' || last === 'DONE' || last === 'UNKNOWN';
  const deviceOn = seen.qemu === 'UP' ? seen.deviceOn : 'NOWHERE';
  return deviceOn === 'DESTINATION' || (deviceOn !== 'SOURCE' && mayHaveRun);
}

/** QEMU makes some checks, for example of the sizes, only after its answer: their failure is still a refusal. */
function hasFailed({ seen }: Situation): boolean {
  if (seen.qemu !== 'UP' || seen.job === undefined || seen.job.status === 'null') return true;
  return seen.job.status === 'concluded' && seen.job.error !== undefined;
}

/** Whether nothing but the end is left when the time limit has expired. */
function isEndedByTime({ job, asked }: Going): boolean {
  switch (job.accepted.options.endPolicy?.atDeadline) {
    case 'HOLD':
      return false;
    case 'PAUSE_GUEST':
      return !job.guestHeld && (job.guestPause === 'OVER' || asked.has('timeIsLongUp'));
    default:
      return true;
  }
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

/** A job that is cancelled need not go on, unless its end is a complete copy. */
function isWantedToGoOn({ state, job, now }: Going): boolean {
  const ends = state === 'CANCELLING' && job.intent?.entry !== 'finish-requested';
  return !ends && !job.pausedByClient && takesChanges(now.status);
}

const FIRST_ROWS: Rows = {
  'guest held too long | the job is over, but its end cannot be recorded | resumes the guest': (s) =>
    isHeld(s) && s.unwritten !== undefined && s.asked.has('heldTooLong') && RELEASE,
  'pull or commit | concluded, or the job is gone | flushes the header, records `flushed`, and reads the header back from disk':
    ({ job, seen, unwritten }) => unwritten && flushHeader(job, seen, unwritten),
  // The end of a job is recorded before its guest is resumed, also if a service that died has held it.
  'any but STARTING | concluded, or the job or QEMU is gone | records `concluded`: how the job ended, and which image the disk is on. After that, it resumes a held guest':
    ({ unwritten }) => unwritten && record(unwritten),
  'guest held | no end is in progress, or the end takes too long | resumes the guest': (s) =>
    isHeld(s) && !isHeldFor(s) && RELEASE,
  ...LIFT_ROWS,
  '`concluded` is recorded | answers, or is no longer needed | syncs the copied data, dismisses the job in QEMU, and closes the nodes that nothing uses. Then it removes the job’s file if it is not a usable copy, deletes the images that a commit has to delete, and records `ended`':
    ({ job: { concluded }, seen }) =>
      concluded !== undefined && (seen.qemu !== 'SILENT' || isWithoutQemu(concluded)) && { move: 'settle' },
  'to be ended by force | silent for too long | records `concluded` with GIVEN_UP, 30 seconds after the request. If QEMU comes back, the parts of the job in it are leftovers':
    ({ job, seen, asked }) =>
      seen.qemu === 'SILENT' && asked.has('givenUp') && job.concluded === undefined && record(unseen('GIVEN_UP')),
  'concluded, clean-up given up | silent for too long | does not wait for QEMU any more, 30 seconds after the request. It syncs the file, ends the job as it was concluded, and deletes nothing. If QEMU comes back, the parts of the job in it are leftovers':
    ({ seen, asked }) => seen.qemu === 'SILENT' && asked.has('givenUp') && { move: 'leave' },
  'any | silent | waits: silence proves nothing, and QEMU may still run the job': ({ seen }) =>
    seen.qemu === 'SILENT' && WAIT,
  'STARTING | the disk is on the destination; or the job may have run, and QEMU has ended or the disk is elsewhere | records `running`: the job may have written data, so the start is not undone. The rows of a running job say what follows':
    (s) => s.state === 'STARTING' && hasRun(s) && RUNNING,
  'STARTING | has no job, or the job failed at once | undoes each step that may have happened, the last one first. The caller gets the reason. After an Abort, the service does the same, and begins no further step':
    (s) => s.state === 'STARTING' && hasFailed(s) && { move: 'undo-start' },
};

const GOING_ROWS: Rows<Going> = {
  'STARTING | the job is not under way yet | checks again every 20 milliseconds, for up to a second': (s) =>
    s.state === 'STARTING' && !s.now.begun && !s.asked.has('overdue') && WAIT,
  'STARTING | runs the job | records `running`; the caller gets its answer': ({ state }) =>
    state === 'STARTING' && RUNNING,
  ...HANDOVER_ROWS,
  'RUNNING, CANCELLING | ready or standby, and the guest does not migrate | records `ready`': (s) =>
    s.settled && s.job.ready === undefined && !s.seen.guestMigrates && record({ entry: 'ready', seenAt: s.seen.at }),
  'its time limit has expired | still has the job | ends the job without a pivot: records `cancel-requested`. With `at_deadline` HOLD, it does not. With PAUSE_GUEST, it first waits up to 10 seconds for a rest that a pause of the guest can copy, and for that pause':
    (s) =>
      s.asked.has('timeIsUp') &&
      isTimeBound(s.job) &&
      isEndedByTime(s) &&
      record({ entry: 'cancel-requested', force: s.state === 'PIVOTING', timeIsUp: true }),
  // QEMU itself notices it only at its next write there, and until then such a copy looks READY.
  'the service has closed its connection | still has the job | cancels the job by force: records `cancel-requested`': ({
    state,
    asked,
  }) =>
    asked.has('connectionBroken') &&
    state !== 'CANCELLING' &&
    !asked.has('complete') &&
    record({ entry: 'cancel-requested', force: true, connectionBroken: true }),
  'running | has another speed limit, or has paused or resumed the job | records `speed`, `paused` or `resumed`, even if another client caused the change':
    observed,
  'paused for space, by no client; `space` ENOUGH is recorded | paused | resumes the job (`job-resume`), records `resumed`. If QEMU refuses, only a drain of its disks still stops the job, and nothing is asked again':
    (s) =>
      s.pause === 'NO_SPACE' &&
      s.job.space?.level === 'ENOUGH' &&
      isWantedToGoOn(s) &&
      s.refused.resume === undefined &&
      resume(s),
  ...DEADLINE_ROWS,
  ...THROTTLE_ROWS,
  // A requested end comes before any change: a change that QEMU refuses would delay the end for ever.
  ...CANCEL_ROWS,
  ...PIVOT_ROWS,
  'another limit, a pause or another write mode is requested | is ending the job, or refuses the change | records `change-refused`: the caller gets the error, and QEMU is not asked again':
    refusedChange,
  'another limit, a pause or another write mode is requested | has not made the change yet | asks QEMU for the change, once, even if the job waits for its end':
    change,
  'RUNNING, READY; `space` FULL is recorded | not paused | pauses the job (`job-pause`), records `paused` NO_SPACE. The guest is not paused':
    (s) =>
      (s.state === 'RUNNING' || s.state === 'READY') &&
      s.job.space?.level === 'FULL' &&
      s.pause === undefined &&
      takesChanges(s.now.status) &&
      s.refused.pause === undefined &&
      pauseFor(s, 'NO_SPACE'),
  'RUNNING, READY | the guest migrates | waits: does not record `ready` or begin the `on_ready` action. After the migration, the guest writes on another host. A copy that continues then does not match any point in time of its disk':
    ({ seen }) => seen.guestMigrates && WAIT,
  'READY, `config_owner` EXTERNAL, and `on_ready` is not FINISH; the gate is not open | has the job | opens the gate with a new token: records `gate-opened`':
    (s) =>
      s.state === 'READY' &&
      isGated(s.job) &&
      s.job.gate === undefined &&
      s.job.accepted.options.onReady !== 'FINISH' && { move: 'open-gate' },
  'READY, `on_ready` PIVOT, and its gate has no record | has the job | waits until the owner of the VM’s configuration has recorded the new path, or the time limit has expired':
    (s) => s.state === 'READY' && s.job.accepted.options.onReady === 'PIVOT' && !mayPivot(s.job) && WAIT,
  'READY, on_ready | not paused | records `pivot-requested` or `finish-requested`, as `on_ready` says': (s) =>
    s.state === 'READY' && s.pause === undefined && s.job.space?.level !== 'FULL' && onReady(s),
  'any | has done everything that was requested | waits': () => WAIT,
};

const [FIRST, GOING] = [inOrder(FIRST_ROWS), inOrder(GOING_ROWS)];

/** The whole table. Urgent moves are made beside any command that waits for an answer. */
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
