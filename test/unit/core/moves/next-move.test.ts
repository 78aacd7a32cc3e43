/* oxlint-disable unicorn/consistent-function-scoping */
import { describe, expect, it } from 'vitest';
import { failure } from '../../../../src/core/errors.ts';
import { advance, allows, type Job } from '../../../../src/core/job/job.ts';
import type { Concluded, DeviceOn, EntryBody } from '../../../../src/core/job/journal-entry.ts';
import type { OnReady, WriteMode } from '../../../../src/core/job-options.ts';
import type { Asking, Circumstance, Move, QemuRefusals, Seen } from '../../../../src/core/moves/moves.ts';
import * as table from '../../../../src/core/moves/next-move.ts';
import * as urgent from '../../../../src/core/moves/urgent-move.ts';
import type { QemuJobStatus } from '../../../../src/core/qemu/replies.ts';
import {
  ACTIVE_COMMIT,
  BASE,
  CANCEL,
  COMMIT,
  DATA_FLUSHED,
  DESTINATION,
  FINISH,
  FOLLOWED,
  FORCE,
  HANDOVER,
  HEADER_FLUSHED,
  HELD,
  JOB,
  jobOf,
  jobWith,
  OPTIONS,
  POLICY,
  PULL,
  pivot,
  policyStep,
  READY,
  RUNNING,
  SEEN_AT,
  SOURCE,
  STORIES,
  spaceIs,
  THROTTLE,
  THROTTLED,
  THROTTLING,
  TIME_IS_UP,
  VERDICT,
} from '../stories.ts';

type Up = Extract<Seen, { qemu: 'UP' }>;
type SeenJob = NonNullable<Up['job']>;

/** The request, and the circumstances, by name; and the refusals of QEMU. */
type Asked = Readonly<Partial<Record<Asking | Circumstance, boolean>>> & { readonly refused?: QemuRefusals };

const NOT_ASKED: Asked = {
  stopsSoon: true,
  // Carried over already, or there are none: the cases about bitmaps set it otherwise.
  bitmaps: true,
};

const NAMES: Readonly<Record<Asking | Circumstance, true>> = {
  complete: true,
  end: true,
  forceEnd: true,
  pause: true,
  resume: true,
  speed: true,
  mode: true,
  bitmaps: true,
  yank: true,
  finalize: true,
  overdue: true,
  timeIsUp: true,
  timeIsLongUp: true,
  pauseLasts: true,
  heldTooLong: true,
  waitsFarTooLong: true,
  endsTooLong: true,
  stopsSoon: true,
  restsFromHold: true,
  givenUp: true,
  connectionBroken: true,
  fenced: true,
  destinationMoved: true,
  throttleIsOver: true,
};

function namesIn(asked: Asked): ReadonlySet<Asking | Circumstance> {
  const names = new Set<Asking | Circumstance>();
  let name: keyof typeof NAMES;
  for (name in NAMES) if (asked[name] === true) names.add(name);
  return names;
}

function nextMove(job: Job, what: Seen, asked: Asked): Move {
  return table.nextMove(job, what, namesIn(asked), asked.refused ?? {});
}

function urgentMove(job: Job, asked: Asked): urgent.UrgentMove | undefined {
  return urgent.urgentMove(job, namesIn(asked));
}

const STILL: EntryBody = { entry: 'followed', seenAt: SEEN_AT };
const ENDED: Seen = { qemu: 'ENDED' };
const SILENT: Seen = { qemu: 'SILENT' };

/** QEMU is there, its guest runs, and the job has this status. */
function seen(status: QemuJobStatus, job: Partial<SeenJob> = {}, more: Partial<Omit<Up, 'qemu' | 'job'>> = {}): Up {
  return {
    qemu: 'UP',
    at: SEEN_AT,
    job: {
      status,
      error: undefined,
      ioStatus: 'ok',
      // QEMU pauses a job for every error that it waits for.
      paused: job.ioStatus !== undefined && job.ioStatus !== 'ok',
      speedBytesPerSecond: OPTIONS.bandwidthBytesPerSecond,
      remainingBytes: 0,
      copiedBytes: 0,
      begun: true,
      ...job,
    },
    deviceOn: 'SOURCE',
    devicePath: SOURCE,
    guestRuns: true,
    guestMigrates: false,
    ...more,
  };
}

/** QEMU is there, and has no such job. */
function gone(deviceOn: DeviceOn = 'SOURCE', devicePath: string | undefined = SOURCE): Up {
  return { qemu: 'UP', at: SEEN_AT, job: undefined, deviceOn, devicePath, guestRuns: true, guestMigrates: false };
}

const WAIT: Move = { move: 'wait' };
const UNDO: Move = { move: 'undo-start' };
const SETTLE: Move = { move: 'settle' };
const OPEN_GATE: Move = { move: 'open-gate' };
const OPENED: EntryBody = { entry: 'gate-opened', token: 'token' };
const RECORDED: EntryBody = { entry: 'config-recorded', token: 'token' };
const LEAVE: Move = { move: 'leave' };
const RELEASE: Move = { move: 'release-guest' };
const hold = (because: string): Move => ({ move: 'hold-guest', because });
const record = (entry: EntryBody): Move => ({ move: 'record', entry });
const COMPLETE: Move = {
  move: 'command',
  asks: 'complete',
  command: { execute: 'job-complete', arguments: { id: JOB } },
};
const END_BY_FORCE: Move = {
  move: 'command',
  asks: 'forceEnd',
  command: { execute: 'job-cancel', arguments: { id: JOB } },
};
const END_SOFTLY: Move = {
  move: 'command',
  asks: 'end',
  command: { execute: 'block-job-cancel', arguments: { device: JOB, force: false } },
};
function concluded(result: Partial<Concluded> = {}): Concluded {
  return {
    entry: 'concluded',
    how: 'CONCLUDED',
    qemuError: undefined,
    deviceOn: 'SOURCE',
    devicePath: SOURCE,
    ...result,
  };
}
const NO_SPACE: EntryBody = { entry: 'paused', reason: 'NO_SPACE' };
const LOST = concluded({ how: 'QEMU_ENDED', deviceOn: 'NOWHERE', devicePath: undefined });
const GIVEN_UP = concluded({ how: 'GIVEN_UP', deviceOn: 'NOWHERE', devicePath: undefined });
const VANISHED = concluded({ how: 'VANISHED' });

const PAUSE_FOR_SPACE: Move = {
  move: 'command',
  asks: 'pause',
  command: { execute: 'job-pause', arguments: { id: JOB } },
  proves: NO_SPACE,
};
const RESUME_WITH_SPACE: Move = {
  move: 'command',
  asks: 'resume',
  command: { execute: 'job-resume', arguments: { id: JOB } },
  proves: { entry: 'resumed' },
};

describe('the next move', () => {
  const starting = jobOf();
  const running = jobOf(RUNNING);
  const ready = jobOf(RUNNING, READY);
  const cancelling = jobOf(RUNNING, CANCEL);
  const pivoting = jobOf(RUNNING, READY, pivot());
  const pivotingHeld = jobOf(RUNNING, READY, pivot('ALWAYS'), HELD);

  it.each<[string, Job, Seen, Partial<Asked>, Move]>([
    ['a start: QEMU has ended', starting, ENDED, {}, UNDO],
    ['a start: QEMU is silent', starting, SILENT, {}, WAIT],
    ['a start: QEMU is silent for too long', jobOf(FORCE), SILENT, { givenUp: true }, record(GIVEN_UP)],
    ['QEMU is silent', running, SILENT, {}, WAIT],
    ['QEMU is silent in a pivot', pivotingHeld, SILENT, { overdue: true, heldTooLong: true }, WAIT],
    ['QEMU is silent when the job should be ended by force', jobOf(RUNNING, FORCE), SILENT, {}, WAIT],
    ['QEMU is silent for too long then', jobOf(RUNNING, FORCE), SILENT, { givenUp: true }, record(GIVEN_UP)],
    ['the job is given up', jobOf(RUNNING, FORCE, GIVEN_UP), SILENT, {}, SETTLE],
    ['QEMU is silent, and its result is known', jobOf(RUNNING, FORCE, concluded()), SILENT, {}, WAIT],
    [
      'QEMU is silent for too long, and its result is known',
      jobOf(RUNNING, concluded()),
      SILENT,
      { givenUp: true },
      LEAVE,
    ],
    ['QEMU has ended, as is known', jobOf(RUNNING, LOST), SILENT, {}, SETTLE],
    ['a start: QEMU has no mirror', starting, gone(), {}, UNDO],
    ['a start: the mirror failed at once', starting, seen('concluded', { error: 'no' }), {}, UNDO],
    ['a start: the mirror has not got going', starting, seen('created', { begun: false }), {}, WAIT],
    ['a start: the mirror takes its time', starting, seen('running', { begun: false }), {}, WAIT],
    ['a start: it takes too long', starting, seen('running', { begun: false }), { overdue: true }, record(RUNNING)],
    ['a start: the mirror runs', starting, seen('running'), {}, record(RUNNING)],
    ['a start: the mirror is READY already', starting, seen('ready'), {}, record(RUNNING)],
    ['a start: the mirror is over already, without error', starting, seen('concluded'), {}, record(RUNNING)],

    ['running', running, seen('running'), {}, WAIT],
    ['running: READY', running, seen('ready'), {}, record(READY)],
    ['running: READY, and drained just now', running, seen('standby'), {}, record(READY)],
    ['running: READY, and out of space', running, seen('ready', { ioStatus: 'nospace' }), {}, record(READY)],
    ['running: out of space', running, seen('paused', { ioStatus: 'nospace' }), {}, record(NO_SPACE)],
    [
      'running: a disk fails',
      running,
      seen('paused', { ioStatus: 'failed' }),
      {},
      record({ entry: 'paused', reason: 'IO_ERROR' }),
    ],
    ['the space is used up', jobOf(RUNNING, spaceIs('FULL')), seen('running'), {}, PAUSE_FOR_SPACE],
    ['READY, and the space is used up', jobOf(RUNNING, READY, spaceIs('FULL')), seen('ready'), {}, PAUSE_FOR_SPACE],
    ['the space is used up, once', jobOf(RUNNING, spaceIs('FULL')), seen('running'), { pause: true }, WAIT],
    ['the space is low', jobOf(RUNNING, spaceIs('LOW')), seen('running'), {}, WAIT],
    [
      'paused for space by an agent that has died',
      jobOf(RUNNING, spaceIs('FULL')),
      seen('paused', { paused: true }),
      {},
      record(NO_SPACE),
    ],
    [
      'a pause of a client, which is not for space',
      jobOf(RUNNING, spaceIs('FULL'), { entry: 'pause-requested' }),
      seen('paused', { paused: true }),
      {},
      record({ entry: 'paused', reason: 'USER' }),
    ],
    ['paused for space', jobOf(RUNNING, spaceIs('FULL'), NO_SPACE), seen('paused', { paused: true }), {}, WAIT],
    [
      'space again',
      jobOf(RUNNING, spaceIs('FULL'), NO_SPACE, spaceIs('ENOUGH')),
      seen('paused', { paused: true }),
      {},
      RESUME_WITH_SPACE,
    ],
    [
      'space again after an error of QEMU',
      jobOf(RUNNING, READY, pivot(), NO_SPACE, spaceIs('ENOUGH')),
      seen('standby', { ioStatus: 'nospace' }),
      {},
      RESUME_WITH_SPACE,
    ],
    [
      'space again, and a client has paused it meanwhile',
      jobOf(RUNNING, NO_SPACE, { entry: 'pause-requested' }, NO_SPACE, spaceIs('ENOUGH')),
      seen('paused', { ioStatus: 'nospace' }),
      {},
      WAIT,
    ],
    [
      'space again, and it is cancelled',
      jobOf(RUNNING, NO_SPACE, CANCEL, spaceIs('ENOUGH')),
      seen('paused', { ioStatus: 'nospace' }),
      {},
      END_BY_FORCE,
    ],
    [
      'no pivot by itself while the space is used up',
      jobWith({ options: { onReady: 'PIVOT' } }, RUNNING, READY, spaceIs('FULL')),
      seen('ready'),
      { pause: true },
      WAIT,
    ],
    ['out of space still', jobOf(RUNNING, NO_SPACE), seen('paused', { ioStatus: 'nospace' }), {}, WAIT],
    ['space again', jobOf(RUNNING, NO_SPACE), seen('running'), {}, record({ entry: 'resumed' })],
    [
      'another reason now',
      jobOf(RUNNING, NO_SPACE),
      seen('paused', { ioStatus: 'failed' }),
      {},
      record({ entry: 'paused', reason: 'IO_ERROR' }),
    ],
    ['drained by somebody: no pause of ours', running, seen('paused'), {}, WAIT],
    [
      'running: failed',
      running,
      seen('concluded', { error: 'Input/output error' }),
      {},
      record(concluded({ qemuError: 'Input/output error' })),
    ],
    ['running: dismissed by somebody', running, gone(), {}, record(VANISHED)],
    ['running: going away', running, seen('null'), {}, record(VANISHED)],
    ['running: QEMU has ended', running, ENDED, {}, record(LOST)],

    ['READY, to be held', ready, seen('ready'), {}, WAIT],
    ['READY and standby: READY stays', ready, seen('standby'), {}, WAIT],
    [
      'READY, to be pivoted',
      jobWith({ options: { onReady: 'PIVOT', pauseGuest: 'NEVER' } }, RUNNING, READY),
      seen('ready'),
      {},
      record(pivot('NEVER')),
    ],
    [
      'READY, to be finished',
      jobWith({ options: { onReady: 'FINISH' } }, RUNNING, READY),
      seen('ready'),
      {},
      record(FINISH),
    ],
    [
      'READY, to be pivoted, and out of space: first the space',
      jobWith({ options: { onReady: 'PIVOT' } }, RUNNING, READY, NO_SPACE),
      seen('standby', { ioStatus: 'nospace' }),
      {},
      WAIT,
    ],

    ...(['HOLD', 'PIVOT'] as const).flatMap((onReady): readonly [string, Job, Seen, Partial<Asked>, Move][] => {
      const gated = (...entries: readonly EntryBody[]) =>
        jobWith({ options: { onReady, configOwner: 'EXTERNAL' } }, RUNNING, READY, ...entries);
      const goesOn = onReady === 'HOLD' ? WAIT : record(pivot());
      return [
        [`READY, ${onReady}, external owner: opens the gate`, gated(), seen('ready'), {}, OPEN_GATE],
        [
          `READY, ${onReady}, external owner, paused: opens the gate`,
          gated(NO_SPACE),
          seen('standby', { ioStatus: 'nospace' }),
          {},
          OPEN_GATE,
        ],
        [
          `READY, ${onReady}, external owner, migrating: waits`,
          gated(),
          seen('ready', {}, { guestMigrates: true }),
          {},
          WAIT,
        ],
        [`READY, ${onReady}, gate: waits for the record`, gated(OPENED), seen('ready'), {}, WAIT],
        [`READY, ${onReady}, record: goes on as on_ready says`, gated(OPENED, RECORDED), seen('ready'), {}, goesOn],
      ];
    }),
    [
      'READY, to be finished: no gate',
      jobWith({ options: { onReady: 'FINISH', configOwner: 'EXTERNAL' } }, RUNNING, READY),
      seen('ready'),
      {},
      record(FINISH),
    ],
    [
      'READY, gate, and its time is up: is cancelled',
      jobWith({ options: { onReady: 'PIVOT', configOwner: 'EXTERNAL', timeLimitMs: 1 } }, RUNNING, READY, OPENED),
      seen('ready'),
      { timeIsUp: true },
      record({ entry: 'cancel-requested', force: false, timeIsUp: true }),
    ],
    ['pivoting: complete', pivoting, seen('ready'), {}, COMPLETE],
    ['pivoting: complete once', pivoting, seen('ready'), { complete: true }, WAIT],
    ['pivoting: standby passes', pivoting, seen('standby'), {}, WAIT],
    ['pivoting: under way', pivoting, seen('waiting'), { complete: true }, WAIT],
    ['pivoting: under way for another agent', pivoting, seen('pending'), {}, WAIT],
    ['pivoting: being undone', pivoting, seen('aborting'), {}, WAIT],
    [
      'pivoting: the guest outruns it',
      pivoting,
      seen('ready'),
      { complete: true, overdue: true },
      hold('the guest writes faster than the copy can follow'),
    ],
    [
      'pivoting: the guest outruns it, and must not be paused',
      jobOf(RUNNING, READY, pivot('NEVER')),
      seen('ready'),
      { complete: true, overdue: true },
      WAIT,
    ],
    [
      'pivoting: the guest should be paused',
      jobOf(RUNNING, READY, pivot('ALWAYS')),
      seen('ready'),
      {},
      hold('pause_guest ALWAYS was requested'),
    ],
    [
      'pivoting: this QEMU needs the pause',
      jobWith({ pauseGuestBecause: 'an NVMe disk' }, RUNNING, READY, pivot()),
      seen('ready'),
      {},
      hold('an NVMe disk'),
    ],
    [
      'pivoting: this QEMU needs the pause, and the caller forbids it',
      jobWith({ pauseGuestBecause: 'an NVMe disk' }, RUNNING, READY, pivot('NEVER')),
      seen('ready'),
      {},
      COMPLETE,
    ],
    [
      'pivoting: the guest is paused by its owner, and needs no pause of ours',
      jobOf(RUNNING, READY, pivot('ALWAYS')),
      seen('ready', {}, { guestRuns: false }),
      {},
      COMPLETE,
    ],
    ['pivoting: held', pivotingHeld, seen('ready', {}, { guestRuns: false }), {}, COMPLETE],
    [
      'pivoting: held in the journal, and the stop was lost',
      pivotingHeld,
      seen('ready'),
      {},
      hold('pause_guest ALWAYS was requested'),
    ],
    [
      'pivoting: held, and QEMU was asked',
      pivotingHeld,
      seen('ready', {}, { guestRuns: false }),
      { complete: true },
      WAIT,
    ],
    ['running: it settles, and the guest has left', running, seen('ready', {}, { guestMigrates: true }), {}, WAIT],
    [
      'ready, to pivot by itself: the guest migrates',
      jobWith({ options: { onReady: 'PIVOT' } }, RUNNING, READY),
      seen('ready', {}, { guestMigrates: true }),
      {},
      WAIT,
    ],
    [
      'cancelling after READY: the guest has left',
      jobOf(RUNNING, READY, CANCEL),
      seen('ready', {}, { guestMigrates: true }),
      {},
      WAIT,
    ],
    [
      'pivoting: done, and the guest has left: with which image nobody knows',
      pivoting,
      seen('concluded', {}, { deviceOn: 'DESTINATION', devicePath: DESTINATION, guestMigrates: true }),
      { complete: true },
      record(concluded({ how: 'VANISHED', deviceOn: 'ELSEWHERE', devicePath: undefined })),
    ],
    [
      'pivoting: done, and the journal takes nothing: the guest goes on',
      pivotingHeld,
      seen('concluded', {}, { deviceOn: 'DESTINATION', devicePath: DESTINATION, guestRuns: false }),
      { complete: true, heldTooLong: true },
      RELEASE,
    ],
    [
      'cancelling: done without error, and the guest has left: of what moment it is nobody knows',
      jobOf(RUNNING, READY, CANCEL),
      seen('concluded', {}, { guestMigrates: true }),
      { end: true },
      record(concluded({ how: 'VANISHED' })),
    ],
    [
      'cancelling: cancelled, and the guest has left',
      jobOf(RUNNING, FORCE),
      seen('concluded', { error: 'Operation canceled' }, { guestMigrates: true }),
      { forceEnd: true },
      record(concluded({ qemuError: 'Operation canceled' })),
    ],
    ['pivoting: the domain is another host’s', pivoting, seen('ready'), { fenced: true }, WAIT],
    [
      'pivoting: held, and the domain is another host’s',
      pivotingHeld,
      seen('ready', {}, { guestRuns: false }),
      { fenced: true },
      RELEASE,
    ],
    ['pivoting: the guest migrates', pivoting, seen('ready', {}, { guestMigrates: true }), {}, WAIT],
    [
      'pivoting: held, and the guest migrates',
      pivotingHeld,
      seen('ready', {}, { guestRuns: false, guestMigrates: true }),
      {},
      RELEASE,
    ],
    [
      'pivoting: QEMU was asked before the guest migrated',
      pivoting,
      seen('ready', {}, { guestMigrates: true }),
      { complete: true },
      WAIT,
    ],
    ['pivoting: out of space', pivoting, seen('standby', { ioStatus: 'nospace' }), {}, record(NO_SPACE)],
    [
      'pivoting: out of space with a held guest',
      jobOf(RUNNING, READY, pivot('ALWAYS'), HELD, NO_SPACE),
      seen('standby', { ioStatus: 'nospace' }, { guestRuns: false }),
      { complete: true },
      RELEASE,
    ],
    [
      'pivoting: out of space, the guest runs',
      jobOf(RUNNING, READY, pivot('ALWAYS'), HELD, NO_SPACE, { entry: 'guest-released' }),
      seen('standby', { ioStatus: 'nospace' }),
      { complete: true },
      WAIT,
    ],
    [
      'pivoted',
      pivoting,
      seen('concluded', {}, { deviceOn: 'DESTINATION', devicePath: DESTINATION }),
      { complete: true },
      record(concluded({ deviceOn: 'DESTINATION', devicePath: DESTINATION })),
    ],

    ['cancelled before READY', cancelling, seen('running'), {}, END_BY_FORCE],
    ['cancelled before READY: once', cancelling, seen('running'), { forceEnd: true }, WAIT],
    ['cancelled before READY, READY by now', cancelling, seen('ready'), {}, record(READY)],
    ['cancelled, READY: a complete copy is left', jobOf(RUNNING, CANCEL, READY), seen('ready'), {}, END_SOFTLY],
    ['cancelled after READY: that it follows still', jobOf(RUNNING, READY, CANCEL), seen('ready'), {}, record(STILL)],
    ['cancelled after READY', jobOf(RUNNING, READY, CANCEL, FOLLOWED), seen('ready'), {}, END_SOFTLY],
    ['cancelled after READY, standby', jobOf(RUNNING, READY, CANCEL, FOLLOWED), seen('standby'), {}, END_SOFTLY],
    [
      'cancelled twice: that it follows still',
      jobOf(RUNNING, READY, FINISH, FOLLOWED, CANCEL),
      seen('ready'),
      {},
      record(STILL),
    ],
    ['cancelled after READY by force', jobOf(RUNNING, READY, FORCE), seen('ready'), {}, END_BY_FORCE],
    ['finished: that it follows still', jobOf(RUNNING, READY, FINISH), seen('ready'), {}, record(STILL)],
    ['finished', jobOf(RUNNING, READY, FINISH, FOLLOWED), seen('ready'), {}, END_SOFTLY],
    [
      'cancelled while it was out of space, where QEMU refuses a soft end',
      jobOf(RUNNING, READY, NO_SPACE, CANCEL),
      seen('standby', { ioStatus: 'nospace' }),
      {},
      END_BY_FORCE,
    ],
    ['cancelled too late: it is over', jobOf(RUNNING, READY, CANCEL), seen('concluded'), {}, record(concluded())],

    ['the result is written down', jobOf(RUNNING, READY, concluded()), seen('concluded'), {}, SETTLE],
    ['the result is written down, the job dismissed', jobOf(RUNNING, READY, concluded()), gone(), {}, SETTLE],
    ['the result is written down, QEMU has ended since', jobOf(RUNNING, READY, concluded()), ENDED, {}, SETTLE],
    [
      'the result is written down, and a guest is held',
      jobOf(RUNNING, READY, pivot('ALWAYS'), HELD, concluded()),
      seen('concluded', {}, { guestRuns: false }),
      {},
      RELEASE,
    ],
    [
      'the result is written down, and nobody is left to be held',
      jobOf(RUNNING, READY, pivot('ALWAYS'), HELD, concluded()),
      ENDED,
      {},
      SETTLE,
    ],
  ])('%s', (_name, job, what, asked, expected) => {
    expect(nextMove(job, what, { ...NOT_ASKED, ...asked })).toEqual(expected);
  });

  it('a start: the mirror is gone, and the guest is on the copy: that file must not be removed', () => {
    expect(nextMove(starting, gone('DESTINATION', DESTINATION), NOT_ASKED)).toEqual(record(RUNNING));
  });
  it('a start: the mirror has failed, and the guest is on the copy: that file must not be removed', () => {
    const what = seen('concluded', { error: 'no' }, { deviceOn: 'DESTINATION', devicePath: DESTINATION });
    expect(nextMove(starting, what, NOT_ASKED)).toEqual(record(RUNNING));
  });
  it('cancelled after READY, and out of space since: by force, as QEMU refuses a soft end', () => {
    const what = seen('standby', { ioStatus: 'nospace' });
    expect(nextMove(jobOf(RUNNING, READY, CANCEL), what, NOT_ASKED)).toEqual(record(NO_SPACE));
    expect(nextMove(jobOf(RUNNING, READY, CANCEL, NO_SPACE), what, NOT_ASKED)).toEqual(END_BY_FORCE);
  });
  it('a start whose mirror may have run is never undone: QEMU has ended, or the disk is elsewhere', () => {
    for (const step of [
      [{ entry: 'step-started', step: 'start-mirror' }],
      [
        { entry: 'step-started', step: 'start-mirror' },
        { entry: 'step-done', step: 'start-mirror' },
      ],
    ] as const) {
      const job = jobOf(...step);
      expect(nextMove(job, ENDED, NOT_ASKED)).toEqual(record(RUNNING));
      expect(nextMove(job, gone('ELSEWHERE', '/other'), NOT_ASKED)).toEqual(record(RUNNING));
      expect(nextMove(job, gone('SOURCE'), NOT_ASKED)).toEqual(UNDO);
    }
    expect(nextMove(starting, ENDED, NOT_ASKED)).toEqual(UNDO);
  });
  it('a held guest waits for the rest before QEMU is asked to complete, and not for ever', () => {
    const held = jobOf(RUNNING, READY, pivot('ALWAYS'), HELD);
    const left = (remainingBytes: number) => seen('ready', { remainingBytes }, { guestRuns: false });
    expect(nextMove(held, left(1), NOT_ASKED)).toEqual(WAIT);
    expect(nextMove(held, left(0), NOT_ASKED)).toEqual(COMPLETE);
    expect(nextMove(held, left(1), { ...NOT_ASKED, heldTooLong: true })).toEqual(RELEASE);
    expect(nextMove(held, left(1), { ...NOT_ASKED, complete: true, heldTooLong: true })).toEqual(RELEASE);
    const released = jobOf(RUNNING, READY, pivot('ALWAYS'), HELD, { entry: 'guest-released' });
    expect(nextMove(released, seen('ready'), { ...NOT_ASKED, restsFromHold: true })).toEqual(WAIT);
    expect(nextMove(released, seen('ready'), NOT_ASKED)).toMatchObject({ move: 'hold-guest' });
  });
  const paused = seen('paused', { paused: true });
  const USER: EntryBody = { entry: 'paused', reason: 'USER' };
  const RESUME: Move = {
    move: 'command',
    asks: 'resume',
    command: { execute: 'job-resume', arguments: { id: JOB } },
    proves: { entry: 'resumed' },
  };
  it('a pause is requested once, is proved by QEMU’s answer, and is accepted from another client', () => {
    const wanted = jobOf(RUNNING, { entry: 'pause-requested' });
    const PAUSE: Move = {
      move: 'command',
      asks: 'pause',
      command: { execute: 'job-pause', arguments: { id: JOB } },
      proves: USER,
    };
    expect(nextMove(wanted, seen('running'), NOT_ASKED)).toEqual(PAUSE);
    expect(nextMove(wanted, seen('running'), { ...NOT_ASKED, pause: true })).toEqual(WAIT);
    expect(nextMove(wanted, paused, NOT_ASKED)).toEqual(record(USER));
    expect(nextMove(jobOf(RUNNING), paused, { ...NOT_ASKED, pauseLasts: true })).toEqual(record(USER));
    // While QEMU drains its disks, a job looks the same for a moment.
    expect(nextMove(jobOf(RUNNING), paused, NOT_ASKED)).toEqual(WAIT);
    expect(nextMove(jobOf(RUNNING, USER), paused, NOT_ASKED)).toEqual(WAIT);
    expect(nextMove(jobOf(RUNNING, USER), seen('running'), NOT_ASKED)).toEqual(record({ entry: 'resumed' }));
  });
  it('a job that is paused is resumed on request, or for its end', () => {
    expect(nextMove(jobOf(RUNNING, USER, { entry: 'resume-requested' }), paused, NOT_ASKED)).toEqual(RESUME);
    const standby = seen('standby', { paused: true });
    expect(nextMove(jobOf(RUNNING, READY, USER, pivot('NEVER')), standby, NOT_ASKED)).toEqual(RESUME);
    expect(nextMove(jobOf(RUNNING, READY, USER, CANCEL), standby, NOT_ASKED)).toEqual(RESUME);
    expect(nextMove(jobOf(RUNNING, READY, USER, FORCE), standby, NOT_ASKED)).toEqual(END_BY_FORCE);
    expect(nextMove(jobOf(RUNNING, USER, CANCEL), paused, NOT_ASKED)).toEqual(END_BY_FORCE);
  });
  it('a limit is requested once, and one that another client has set is accepted', () => {
    const SPEED: EntryBody = { entry: 'speed', bandwidthBytesPerSecond: 77 };
    const wanted = jobOf(RUNNING, { entry: 'speed-requested', bandwidthBytesPerSecond: 77 });
    expect(nextMove(wanted, seen('running'), NOT_ASKED)).toEqual({
      move: 'command',
      asks: 'speed',
      command: { execute: 'block-job-set-speed', arguments: { device: JOB, speed: 77 } },
      proves: SPEED,
    });
    expect(nextMove(wanted, seen('running'), { ...NOT_ASKED, speed: true })).toEqual(WAIT);
    expect(nextMove(jobOf(RUNNING), seen('running', { speedBytesPerSecond: 77 }), NOT_ASKED)).toEqual(record(SPEED));
    expect(nextMove(jobOf(RUNNING, SPEED), seen('running', { speedBytesPerSecond: 77 }), NOT_ASKED)).toEqual(WAIT);
  });
  const NEVER: EntryBody = { entry: 'cancel-requested', force: false, pauseGuest: 'NEVER' };
  describe.each<[string, EntryBody, 'SPEED' | 'PAUSE' | 'WRITE_MODE']>([
    ['another limit', { entry: 'speed-requested', bandwidthBytesPerSecond: 77 }, 'SPEED'],
    ['a pause', { entry: 'pause-requested' }, 'PAUSE'],
    ['another write mode', policyStep('BLOCKING'), 'WRITE_MODE'],
  ])('%s that is wanted', (_name, wish, change) => {
    const late = (state: string) => record({ entry: 'change-refused', change, failure: tooLate(state) });
    const tooLate = (state: string) => failure('JOB_ENDING', { job: JOB, state });

    it('does not delay an end, and is not repeated when QEMU refuses it', () => {
      // The end of a blocking copy is that of every blocking copy.
      const ending = jobWith(PULL, RUNNING, wish, change === 'WRITE_MODE' ? NEVER : CANCEL);
      expect(nextMove(ending, seen('pending'), NOT_ASKED)).toEqual(END_BY_FORCE);
      expect(nextMove(ending, seen('running'), NOT_ASKED)).toEqual(END_BY_FORCE);
      for (const status of ['waiting', 'pending', 'aborting'] as const) {
        expect(nextMove(jobOf(RUNNING, wish), seen(status), NOT_ASKED)).toEqual(late('RUNNING'));
      }
    });

    it.skipIf(change === 'WRITE_MODE')('is answered while a pull waits for its guest, which migrates', () => {
      const pulling = jobWith(PULL, RUNNING, wish);
      expect(nextMove(pulling, seen('pending', {}, { guestMigrates: true }), NOT_ASKED)).toEqual(late('RUNNING'));
    });

    it('is given up in QEMU’s own words when it is refused for longer than a race explains', () => {
      const asked = { ...NOT_ASKED, refused: { speed: 'no', pause: 'no', mode: 'no' } };
      const { move, ...rest } = nextMove(jobOf(RUNNING, wish), seen('running'), asked);
      expect(move).toBe('record');
      expect(rest).toMatchObject({
        entry: { change, failure: { reason: 'REFUSED_BY_QEMU', metadata: { qemuText: 'no' } } },
      });
    });
  });
  it('a lifted limit takes the same way as that of a caller', () => {
    const SPEED: EntryBody = { entry: 'speed', bandwidthBytesPerSecond: 80 * 2 ** 20 };
    expect(nextMove(jobOf(RUNNING, policyStep('LIMIT')), seen('running'), NOT_ASKED)).toEqual({
      move: 'command',
      asks: 'speed',
      command: { execute: 'block-job-set-speed', arguments: { device: JOB, speed: 80 * 2 ** 20 } },
      proves: SPEED,
    });
  });
  it('a switch to BLOCKING is requested once, also while a pivot waits', () => {
    const SWITCH: Move = {
      move: 'command',
      asks: 'mode',
      command: { execute: 'block-job-change', arguments: { id: JOB, type: 'mirror', 'copy-mode': 'write-blocking' } },
      proves: { entry: 'write-mode', writeMode: 'BLOCKING' },
    };
    const toSwitch = jobOf(RUNNING, policyStep('BLOCKING'));
    expect(nextMove(toSwitch, seen('running'), NOT_ASKED)).toEqual(SWITCH);
    expect(nextMove(toSwitch, seen('running'), { ...NOT_ASKED, mode: true })).toEqual(WAIT);
    const alsoPivots = jobOf(RUNNING, READY, pivot(), policyStep('BLOCKING'));
    expect(nextMove(alsoPivots, seen('standby'), NOT_ASKED)).toEqual(SWITCH);
    expect(nextMove(jobOf(RUNNING, policyStep('BLOCKING'), SWITCHED), seen('running'), NOT_ASKED)).toEqual(WAIT);
  });
  it('a limit whose answer was lost is written down when QEMU has it', () => {
    const wanted = jobOf(RUNNING, { entry: 'speed-requested', bandwidthBytesPerSecond: 77 });
    const entry: EntryBody = { entry: 'speed', bandwidthBytesPerSecond: 77 };
    expect(nextMove(wanted, seen('running', { speedBytesPerSecond: 77 }), { ...NOT_ASKED, speed: true })).toEqual(
      record(entry),
    );
  });
  it('an end that is on its way is not cancelled once more: a soft cancel would spoil its copy', () => {
    for (const status of ['waiting', 'pending'] as const) {
      expect(nextMove(jobOf(RUNNING, READY, CANCEL, FOLLOWED), seen(status), NOT_ASKED)).toEqual(WAIT);
      expect(nextMove(jobOf(RUNNING, READY, FORCE), seen(status), NOT_ASKED)).toEqual(END_BY_FORCE);
    }
    for (const job of [
      jobOf(RUNNING, READY, FORCE),
      jobWith({ options: { writeMode: 'BLOCKING' } }, RUNNING, CANCEL),
    ]) {
      expect(nextMove(job, seen('aborting'), NOT_ASKED)).toEqual(WAIT);
    }
  });
  it('finished after READY, and out of space since: waits, because the copy is worth it', () => {
    const what = seen('standby', { ioStatus: 'nospace' });
    expect(nextMove(jobOf(RUNNING, READY, FINISH, NO_SPACE), what, NOT_ASKED)).toEqual(WAIT);
  });
  it('a pivot that is being cancelled, and out of space, with a held guest: released', () => {
    const job = jobOf(RUNNING, READY, pivot('ALWAYS'), HELD, FORCE);
    const what = seen('standby', { ioStatus: 'nospace' }, { guestRuns: false });
    expect(nextMove(job, what, { ...NOT_ASKED, end: true })).toEqual(RELEASE);
  });
});

const STATUSES = [
  'undefined',
  'created',
  'running',
  'paused',
  'ready',
  'standby',
  'waiting',
  'pending',
  'aborting',
  'concluded',
  'null',
] as const satisfies readonly QemuJobStatus[];
const PLACES = ['SOURCE', 'DESTINATION', 'ELSEWHERE', 'NOWHERE'] as const;
const BOTH = [false, true] as const;

const everythingSeen: readonly Seen[] = [
  ENDED,
  ...PLACES.flatMap((deviceOn) =>
    BOTH.flatMap((guestRuns) => [
      { ...gone(deviceOn), guestRuns },
      ...STATUSES.flatMap((status) =>
        (['ok', 'failed', 'nospace'] as const).flatMap((ioStatus) =>
          // A look calls a job begun in every status but these two.
          (status === 'created' || status === 'running' ? BOTH : [true]).flatMap((begun) =>
            [undefined, 'Operation canceled'].map((error) =>
              seen(status, { ioStatus, begun, error }, { deviceOn, guestRuns }),
            ),
          ),
        ),
      ),
    ]),
  ),
];
type Names = ReadonlySet<Asking | Circumstance>;
const everythingAsked: readonly Names[] = (
  ['complete', 'end', 'forceEnd', 'overdue', 'heldTooLong', 'restsFromHold'] as const
).reduce<readonly Names[]>(
  (all, what) => all.flatMap((asked) => [asked, new Set(asked).add(what)]),
  [namesIn(NOT_ASKED)],
);
const withoutBitmaps = new Map(
  everythingAsked.map((asked) => [asked, asked.difference(new Set<Asking | Circumstance>(['bitmaps']))]),
);
const withFence = new Map(everythingAsked.map((asked) => [asked, new Set(asked).add('fenced')]));
const jobs: readonly (readonly [string, Job])[] = [
  ...STORIES.map(([name, , entries]) => [name, jobOf(...entries)] as const),
  ...STORIES.filter(([, state]) => state !== 'STARTING').map(
    ([name, , entries]) => [`${name}, concluded`, jobOf(...entries, concluded())] as const,
  ),
  ...(['PIVOT', 'FINISH'] as const).map(
    (onReady) => [`ready, on_ready ${onReady}`, jobWith({ options: { onReady } }, RUNNING, READY)] as const,
  ),
  ['pivoting an NVMe disk', jobWith({ pauseGuestBecause: 'NVMe' }, RUNNING, READY, pivot())],
];

interface Combination {
  readonly job: Job;
  readonly seen: Seen;
  readonly asked: Names;
  readonly move: Move;
}

/** The combinations that break the rule, in words, at most five: a test expects an empty list. */
function except(holds: (one: Combination) => boolean): string[] {
  const wrong: string[] = [];
  for (const [name, job] of jobs) {
    for (const what of everythingSeen) {
      for (const asked of everythingAsked) {
        const move = table.nextMove(job, what, asked, {});
        if (!holds({ job, seen: what, asked, move }) && wrong.length < 5)
          wrong.push(`${name}; ${JSON.stringify(what)}; ${[...asked].join()} => ${JSON.stringify(move)}`);
      }
    }
  }
  return wrong;
}

const commandOf = ({ move }: Combination) => (move.move === 'command' ? move.command : undefined);
const statusOf = ({ seen: what }: Combination) => (what.qemu === 'UP' ? what.job?.status : undefined);

describe('whatever a job is, QEMU says, and was asked,', () => {
  it('a job is completed only when READY, for a pivot, and once', () => {
    expect(
      except(
        (one) =>
          commandOf(one)?.execute !== 'job-complete' ||
          (statusOf(one) === 'ready' && one.job.state === 'PIVOTING' && !one.asked.has('complete')),
      ),
    ).toEqual([]);
  });

  it('a soft end is requested only for a job that is READY, and never for one that is ended by force', () => {
    expect(
      except(
        (one) =>
          commandOf(one)?.execute !== 'block-job-cancel' ||
          (['ready', 'standby'].includes(statusOf(one) ?? '') &&
            one.job.ready !== undefined &&
            one.job.followedSinceAsked &&
            !(one.job.intent?.entry === 'cancel-requested' && one.job.intent.force)),
      ),
    ).toEqual([]);
  });

  it('QEMU is told to do nothing but end a cancelled job, complete a pivot, pause and resume a job for its space, stop and continue its guest', () => {
    expect(
      except((one) => {
        const command = commandOf(one)?.execute;
        if (command === undefined) return true;
        const { state, space, pauseReason, pausedByClient } = one.job;
        if (command === 'job-pause') return ['RUNNING', 'READY'].includes(state) && space?.level === 'FULL';
        if (command === 'job-resume' && space?.level === 'ENOUGH') return pauseReason === 'NO_SPACE' && !pausedByClient;
        return one.job.state === 'CANCELLING'
          ? ['job-cancel', 'block-job-cancel'].includes(command)
          : one.job.state === 'PIVOTING' && command === 'job-complete';
      }),
    ).toEqual([]);
  });

  it('a result is written down only when QEMU has one, or no longer has the job', () => {
    expect(
      except(
        (one) =>
          one.move.move !== 'record' ||
          one.move.entry.entry !== 'concluded' ||
          [undefined, 'concluded', 'null'].includes(statusOf(one)),
      ),
    ).toEqual([]);
  });

  it('nobody waits for a job that is over', () => {
    expect(
      except((one) => ![undefined, 'concluded', 'null'].includes(statusOf(one)) || one.move.move !== 'wait'),
    ).toEqual([]);
  });

  it('a job whose result is written down is settled, once its guest goes on', () => {
    expect(
      except(
        ({ job, seen: what, move }) =>
          job.concluded === undefined ||
          move.move === (job.guestHeld && what.qemu === 'UP' ? 'release-guest' : 'settle'),
      ),
    ).toEqual([]);
  });

  it('a guest is held only for a pivot that can be completed soon, and only if it runs', () => {
    expect(
      except(
        ({ job, seen: what, move }) =>
          move.move !== 'hold-guest' ||
          (job.state === 'PIVOTING' && what.qemu === 'UP' && what.guestRuns && what.job?.ioStatus === 'ok'),
      ),
    ).toEqual([]);
  });

  it.each([
    ['migrates', { guestMigrates: true }, undefined],
    ['may be another host’s', {}, withFence],
  ])('a guest that %s is not moved to the destination, nor held for it', (_why, isSeen, fenced) => {
    expect(
      except(({ job, seen: what, asked }) => {
        const now = what.qemu === 'UP' ? { ...what, ...isSeen } : what;
        const moved = table.nextMove(job, now, fenced?.get(asked) ?? asked, {});
        const completes = moved.move === 'command' && moved.asks === 'complete';
        const holds = moved.move === 'hold-guest' && !asked.has('complete');
        return !completes && !holds;
      }),
    ).toEqual([]);
  });

  it('a guest that the service does not hold is not resumed', () => {
    expect(except(({ job, move }) => move.move !== 'release-guest' || job.guestHeld)).toEqual([]);
  });

  it('nothing is sent to a QEMU that has ended', () => {
    expect(
      except(({ seen: what, move }) => what.qemu === 'UP' || ['record', 'settle', 'undo-start'].includes(move.move)),
    ).toEqual([]);
  });

  it('only a start is undone', () => {
    expect(except(({ job, move }) => move.move !== 'undo-start' || job.state === 'STARTING')).toEqual([]);
  });

  it('a guest that is held waits for its disks alone, and not for bitmaps', () => {
    const carries = ({ job, seen: what, asked }: Combination) =>
      table.nextMove(job, what, withoutBitmaps.get(asked) ?? asked, {}).move === 'carry-bitmaps';
    expect(except((one) => !one.job.guestHeld || !carries(one))).toEqual([]);
    expect(except((one) => !carries(one))).not.toEqual([]);
  });

  it('only what the job’s state allows is written down', () => {
    expect(except(({ job, move }) => move.move !== 'record' || allows(job, move.entry))).toEqual([]);
  });

  it('moves come to an end: done one after the other, they never repeat while QEMU stays as it is', {
    timeout: 120_000,
  }, () => {
    expect(except((one) => movesUntilRest(one) <= 12)).toEqual([]);
    const without = (asked: Names) => withoutBitmaps.get(asked) ?? asked;
    expect(except((one) => movesUntilRest({ ...one, asked: without(one.asked) }) <= 12)).toEqual([]);
  });
});

/** Executes the moves, with a QEMU that answers and does not change, until there is nothing more to do. */
function movesUntilRest({ job: from, seen: at, asked: before }: Combination): number {
  let job = from;
  let what = at;
  let asked = before;
  const write = (entry: EntryBody) => {
    job = advance(job, { ...entry, revision: job.revision + 1, time: '' });
  };
  for (let moves = 0; moves < 20; moves += 1) {
    const move = table.nextMove(job, what, asked, {});
    switch (move.move) {
      case 'wait':
      case 'settle':
      case 'leave':
      case 'undo-start':
        return moves;
      case 'record':
        write(move.entry);
        break;
      case 'hold-guest':
        if (!job.guestHeld) write({ entry: 'guest-held', because: move.because });
        if (what.qemu === 'UP') what = { ...what, guestRuns: false };
        break;
      case 'release-guest':
        write({ entry: 'guest-released' });
        asked = new Set(asked).add('restsFromHold').difference(new Set(['heldTooLong']));
        if (what.qemu === 'UP') what = { ...what, guestRuns: true };
        break;
      case 'command':
        asked = new Set(asked).add(move.asks);
        break;
      case 'open-gate':
        write({ entry: 'gate-opened', token: 'token' });
        break;
      case 'flush':
        write({ entry: 'flushed', what: move.what });
        break;
      case 'carry-bitmaps':
        asked = new Set(asked).add('bitmaps');
        break;
      case 'throttle':
        write({ entry: 'throttled', limitBytesPerSecond: job.throttle?.limits.at(-1) ?? 0 });
        break;
      case 'lift-throttle':
        write({ entry: 'throttle-lifted', because: move.because, ...(move.isGoing && { hasMark: true }) });
        break;
    }
  }
  return Number.POSITIVE_INFINITY;
}

describe('a destination that has moved', () => {
  const moved = { ...NOT_ASKED, destinationMoved: true };

  it('is not a place for the guest: the job is cancelled', () => {
    const entry = { entry: 'cancel-requested', force: true, destinationMoved: true };
    expect(nextMove(jobWith({}, RUNNING, READY, pivot()), seen('ready'), moved)).toEqual({ move: 'record', entry });
  });

  it('changes nothing once QEMU was asked for the pivot', () => {
    expect(nextMove(jobWith({}, RUNNING, READY, pivot()), seen('ready'), { ...moved, complete: true })).toEqual({
      move: 'wait',
    });
  });
});

describe('a job with a time limit', () => {
  const options = { timeLimitMs: 1000 };
  const timeIsUp = { ...NOT_ASKED, timeIsUp: true };
  const cancel = (force: boolean) => ({
    move: 'record',
    entry: { entry: 'cancel-requested', force, timeIsUp: true },
  });

  it('that is over is cancelled before READY, whatever its on_ready', () => {
    for (const onReady of ['HOLD', 'PIVOT', 'FINISH'] as const) {
      expect(nextMove(jobWith({ options: { ...options, onReady } }, RUNNING), seen('running'), timeIsUp)).toEqual(
        cancel(false),
      );
    }
    expect(nextMove(jobWith({ options }, RUNNING), seen('running'), NOT_ASKED)).toEqual({ move: 'wait' });
  });

  it('of HOLD is kept by READY; otherwise it is for the end, and a pivot that does not come is cancelled', () => {
    const ready = seen('ready');
    expect(nextMove(jobWith({ options }, RUNNING, READY), ready, timeIsUp)).toEqual({ move: 'wait' });
    const pivoting = { ...options, onReady: 'PIVOT' } as const;
    expect(nextMove(jobWith({ options: pivoting }, RUNNING, READY), ready, timeIsUp)).toEqual(cancel(false));
    expect(nextMove(jobWith({ options: pivoting }, RUNNING, READY, pivot()), ready, timeIsUp)).toEqual(cancel(true));
    expect(nextMove(jobWith({ options }, RUNNING, READY, pivot()), ready, { ...timeIsUp, complete: true })).toEqual({
      move: 'wait',
    });
  });

  it('goes on with HOLD', () => {
    const endPolicy = { ...POLICY, atDeadline: 'HOLD' } as const;
    expect(nextMove(jobWith({ options: { ...options, endPolicy } }, RUNNING), seen('running'), timeIsUp)).toEqual(WAIT);
  });

  describe('and PAUSE_GUEST', () => {
    const endPolicy = { ...POLICY, atDeadline: 'PAUSE_GUEST', maxGuestPauseMs: 1000 } as const;
    const job = (onReady: OnReady, ...entries: readonly EntryBody[]) =>
      jobWith({ options: { ...options, endPolicy, onReady } }, RUNNING, ...entries);
    const DUE = policyStep('PAUSE_GUEST');
    const RELEASED: EntryBody = { entry: 'guest-released' };
    const stopped = { guestRuns: false };
    const cancels = { entry: { entry: 'cancel-requested', timeIsUp: true } };

    it('waits for a rest that fits, for a while', () => {
      expect(nextMove(job('HOLD'), seen('running'), timeIsUp)).toEqual(WAIT);
      expect(nextMove(job('HOLD'), seen('running'), { ...timeIsUp, timeIsLongUp: true })).toMatchObject(cancels);
    });

    it('holds the guest until the copy is READY, and no longer than its limit', () => {
      expect(nextMove(job('HOLD', DUE), seen('running'), timeIsUp)).toMatchObject({ move: 'hold-guest' });
      const held = job('HOLD', DUE, HELD);
      expect(nextMove(held, seen('running', {}, stopped), { ...timeIsUp, timeIsLongUp: true })).toEqual(WAIT);
      expect(nextMove(held, seen('running', {}, stopped), { ...timeIsUp, heldTooLong: true })).toEqual(RELEASE);
      expect(nextMove(held, seen('ready', {}, stopped), timeIsUp)).toEqual(record(READY));
      expect(nextMove(job('HOLD', DUE, HELD, READY), seen('ready', {}, stopped), timeIsUp)).toEqual(RELEASE);
      expect(nextMove(job('HOLD', DUE, HELD, READY, RELEASED), seen('ready'), timeIsUp)).toEqual(WAIT);
    });

    it('ends the job if the pause was too short', () => {
      expect(nextMove(job('HOLD', DUE, HELD, RELEASED), seen('running'), timeIsUp)).toMatchObject(cancels);
    });

    it('does not hold a guest that migrates, is stopped, or whose job is paused', () => {
      expect(nextMove(job('HOLD', DUE), seen('running', {}, { guestMigrates: true }), timeIsUp)).toEqual(WAIT);
      expect(nextMove(job('HOLD', DUE), seen('running', {}, stopped), timeIsUp)).toEqual(WAIT);
      const full = seen('paused', { ioStatus: 'nospace' });
      expect(nextMove(job('HOLD', DUE, NO_SPACE), full, timeIsUp)).toEqual(WAIT);
    });

    it('carries the bitmaps first, and holds the guest until the pivot is done', () => {
      expect(nextMove(job('PIVOT', DUE), seen('running'), { ...timeIsUp, bitmaps: false })).toEqual({
        move: 'carry-bitmaps',
      });
      expect(nextMove(job('PIVOT', DUE), seen('running'), timeIsUp)).toMatchObject({ move: 'hold-guest' });
      const held = seen('ready', {}, stopped);
      expect(nextMove(job('PIVOT', DUE, HELD, READY), held, timeIsUp)).toEqual(record(pivot()));
      expect(nextMove(job('PIVOT', DUE, HELD, READY, pivot()), held, timeIsUp)).toEqual(COMPLETE);
    });

    it('holds the guest of a pivot at once', () => {
      const pivoting = job('PIVOT', READY, pivot(), DUE);
      expect(nextMove(pivoting, seen('ready'), timeIsUp)).toMatchObject({ move: 'hold-guest' });
      expect(nextMove(job('PIVOT', READY, pivot(), DUE, HELD, RELEASED), seen('ready'), timeIsUp)).toMatchObject({
        entry: { entry: 'cancel-requested', force: true, timeIsUp: true },
      });
    });

    it('holds the guest until a copy that finishes has ended', () => {
      const held = seen('ready', {}, stopped);
      expect(nextMove(job('FINISH', DUE, HELD, READY), held, timeIsUp)).toEqual(record(FINISH));
      expect(nextMove(job('FINISH', DUE, HELD, READY, FINISH), held, timeIsUp)).toEqual(record(STILL));
      expect(nextMove(job('FINISH', DUE, HELD, READY, FINISH, STILL), held, timeIsUp)).toEqual(END_SOFTLY);
      const late = { ...timeIsUp, heldTooLong: true };
      expect(nextMove(job('FINISH', DUE, HELD, READY, FINISH), held, late)).toEqual(RELEASE);
    });

    it('does not hold the guest at a gate', () => {
      const gated = jobWith(
        { options: { ...options, endPolicy, onReady: 'PIVOT', configOwner: 'EXTERNAL' } },
        RUNNING,
        DUE,
        HELD,
        READY,
      );
      expect(nextMove(gated, seen('ready', {}, stopped), timeIsUp)).toEqual(RELEASE);
    });
  });

  it('that becomes READY in the same moment is READY first', () => {
    expect(nextMove(jobWith({ options }, RUNNING), seen('ready'), timeIsUp)).toEqual({ move: 'record', entry: READY });
  });
});

const SWITCHED: EntryBody = { entry: 'write-mode', writeMode: 'BLOCKING' };

describe.each<[how: string, WriteMode, readonly EntryBody[]]>([
  ['from its start', 'BLOCKING', []],
  ['because QEMU was asked for it', 'BACKGROUND', [policyStep('BLOCKING')]],
  ['because it has been switched', 'BACKGROUND', [policyStep('BLOCKING'), SWITCHED]],
])('a blocking copy, %s', (_how, writeMode, since) => {
  const job = (...entries: readonly EntryBody[]) =>
    jobWith({ options: { writeMode } }, RUNNING, READY, ...since, ...entries);
  const held = seen('ready', {}, { guestRuns: false });

  it('is cancelled with the guest held, and the guest continues when it has ended', () => {
    expect(nextMove(job(FORCE), seen('ready'), NOT_ASKED)).toMatchObject({ move: 'hold-guest' });
    expect(nextMove(job(FORCE, HELD), held, NOT_ASKED)).toMatchObject({ move: 'command', asks: 'forceEnd' });
    expect(nextMove(job(FORCE, HELD), held, { ...NOT_ASKED, forceEnd: true })).toEqual({ move: 'wait' });
    const ended: Concluded = {
      entry: 'concluded',
      how: 'CONCLUDED',
      qemuError: 'Operation canceled',
      deviceOn: 'SOURCE',
      devicePath: SOURCE,
    };
    expect(nextMove(job(FORCE, HELD, ended), held, NOT_ASKED)).toEqual({ move: 'release-guest' });
  });

  it('holds the guest no longer than the limit, and not again before it has rested', () => {
    expect(nextMove(job(FORCE, HELD), held, { ...NOT_ASKED, heldTooLong: true })).toEqual({ move: 'release-guest' });
    expect(nextMove(job(FORCE), seen('ready'), { ...NOT_ASKED, restsFromHold: true })).toEqual({ move: 'wait' });
  });

  it('ends softly, or with NEVER by force, while the guest runs', () => {
    expect(nextMove(job(CANCEL, FOLLOWED), seen('ready'), NOT_ASKED)).toMatchObject({ asks: 'end' });
    const never: EntryBody = { entry: 'cancel-requested', force: true, pauseGuest: 'NEVER' };
    expect(nextMove(job(never), seen('ready'), NOT_ASKED)).toMatchObject({ asks: 'forceEnd' });
    expect(nextMove(jobOf(RUNNING, READY, FORCE), seen('ready'), NOT_ASKED)).toMatchObject({ asks: 'forceEnd' });
  });
});

describe('a job that waits for the repair of an error', () => {
  const noSpace: EntryBody = { entry: 'paused', reason: 'NO_SPACE' };
  const forgotten = seen('paused', { paused: true, ioStatus: 'ok' });
  const asked = { ...NOT_ASKED, pauseLasts: true };

  it('still waits for it when QEMU has forgotten that, as at each cont', () => {
    expect(nextMove(jobOf(RUNNING, noSpace), forgotten, asked)).toEqual({ move: 'wait' });
    const pivoting = jobOf(RUNNING, READY, pivot(), noSpace);
    const standing = seen('standby', { paused: true, ioStatus: 'ok' });
    expect(nextMove(pivoting, standing, asked)).toEqual({ move: 'wait' });
  });

  it('is one that a client has paused, if it continued in between', () => {
    const job = jobOf(RUNNING, noSpace, { entry: 'resumed' });
    expect(nextMove(job, forgotten, asked)).toEqual({ move: 'record', entry: { entry: 'paused', reason: 'USER' } });
  });
});

describe('bitmaps', () => {
  const asked = { ...NOT_ASKED, bitmaps: false };
  const ready = seen('ready');

  it('are carried over before QEMU is asked to complete, to a qcow2', () => {
    const job = jobOf(RUNNING, READY, pivot());
    expect(nextMove(job, ready, asked)).toEqual({ move: 'carry-bitmaps' });
    expect(nextMove(job, ready, NOT_ASKED)).toMatchObject({ asks: 'complete' });
    expect(nextMove(jobWith(ACTIVE_COMMIT, RUNNING, READY, pivot()), ready, asked)).toEqual({ move: 'carry-bitmaps' });
  });

  it('are carried over before the guest is held: one that is held already goes on first', () => {
    const job = jobOf(RUNNING, READY, pivot('ALWAYS'));
    const heldJob = jobOf(RUNNING, READY, pivot('ALWAYS'), HELD);
    const held = seen('ready', {}, { guestRuns: false });
    expect(nextMove(job, ready, asked)).toEqual({ move: 'carry-bitmaps' });
    expect(nextMove(job, ready, { ...asked, stopsSoon: false })).toEqual({ move: 'wait' });
    expect(nextMove(job, ready, NOT_ASKED)).toMatchObject({ move: 'hold-guest' });
    expect(nextMove(heldJob, held, asked)).toEqual({ move: 'release-guest' });
    expect(nextMove(heldJob, held, { ...asked, complete: true })).toEqual({ move: 'wait' });
    expect(nextMove(heldJob, held, NOT_ASKED)).toMatchObject({ asks: 'complete' });
  });

  it('stay without a pivot, and if raw cannot hold them', () => {
    expect(nextMove(jobOf(RUNNING, READY, CANCEL, FOLLOWED), ready, asked)).toMatchObject({ asks: 'end' });
    const destination = { node: JOB, path: DESTINATION, format: 'RAW', target: undefined } as const;
    expect(nextMove(jobWith({ destination }, RUNNING, READY, pivot()), ready, asked)).toMatchObject({
      asks: 'complete',
    });
  });
});

describe('a start that should be given up', () => {
  const cancelled = (...entries: readonly EntryBody[]) => jobOf(...entries, CANCEL);

  it('is undone if QEMU has no job yet', () => {
    expect(cancelled().state).toBe('STARTING');
    expect(nextMove(cancelled(), { ...seen('running'), job: undefined }, NOT_ASKED)).toEqual({
      move: 'undo-start',
    });
  });

  it('ends as any other if QEMU has its job', () => {
    expect(nextMove(cancelled(), seen('running'), NOT_ASKED)).toEqual({ move: 'record', entry: RUNNING });
    const job = jobOf(CANCEL, RUNNING);
    expect(job.state).toBe('CANCELLING');
    expect(nextMove(job, seen('running'), NOT_ASKED)).toMatchObject({ move: 'command', asks: 'forceEnd' });
  });
});

const server = { kind: 'unix', path: '/s' } as const;
const target = { kind: 'nbd', nbd: { server, exportName: '', tlsCredentialsId: '', tlsHostname: '' } } as const;
const NBD = { node: JOB, path: 'nbd+unix:///?socket=/s', format: 'RAW', target } as const;
const nbd = (...entries: readonly EntryBody[]) => jobWith({ destination: NBD }, RUNNING, READY, ...entries);

describe('a copy whose connection was broken for the guest’s sake', () => {
  const broken = { ...NOT_ASKED, connectionBroken: true };
  const end = { move: 'record', entry: { entry: 'cancel-requested', force: true, connectionBroken: true } };

  it.each([
    ['runs', jobWith({ destination: NBD }, RUNNING), 'running'],
    ['is READY', nbd(), 'ready'],
    ['should be pivoted, and QEMU was not asked to', nbd(pivot()), 'ready'],
  ] as const)('and that %s is cancelled, though QEMU has not noticed', (_what, job, status) => {
    expect(nextMove(job, seen(status), broken)).toEqual(end);
  });

  it('is left alone while it is ending, or if the guest may be on it', () => {
    expect(nextMove(nbd(pivot()), seen('ready'), { ...broken, complete: true })).toEqual({ move: 'wait' });
    expect(nextMove(nbd(FORCE), seen('ready'), broken)).toMatchObject({
      asks: 'forceEnd',
    });
  });
});

describe('actions that cannot wait for an answer', () => {
  it('are the yank of a network destination, at a cancel by force, once', () => {
    const instances = [{ type: 'block-node', 'node-name': `${JOB}-file` }];
    expect(urgent.yankOf(JOB)).toEqual({ execute: 'yank', arguments: { instances } });
    expect(urgentMove(nbd(FORCE), NOT_ASKED)).toBe('YANK');
    expect(urgentMove(nbd(FORCE), { ...NOT_ASKED, yank: true })).toBeUndefined();
  });

  it('are nothing else: no cancel without force, no time limit, no local destination', () => {
    expect(urgentMove(nbd(CANCEL), NOT_ASKED)).toBeUndefined();
    expect(urgentMove(nbd(), NOT_ASKED)).toBeUndefined();
    expect(urgentMove(nbd({ entry: 'cancel-requested', force: true, timeIsUp: true }), NOT_ASKED)).toBeUndefined();
    expect(urgentMove(jobOf(RUNNING, READY, FORCE), NOT_ASKED)).toBeUndefined();
  });

  it('are the yank if QEMU had to end the copy, has nothing left, and does not end it', () => {
    const endsTooLong = { ...NOT_ASKED, complete: true, endsTooLong: true };
    expect(urgentMove(nbd(pivot()), endsTooLong)).toBe('YANK');
    expect(urgentMove(jobOf(RUNNING, READY, pivot()), endsTooLong)).toBeUndefined();
  });

  it('are the yank of all copies if the guest waits for storage, of whatever job, again and again', () => {
    const far = { ...NOT_ASKED, waitsFarTooLong: true, yank: true };
    for (const job of [nbd(pivot(), HELD), jobOf(RUNNING, READY, pivot(), HELD)])
      expect(urgentMove(job, far)).toBe('YANK_COPIES');
  });

  it('are the yank of one that is over, and whose node is not closed, by force, and if the guest is on its source', () => {
    const GIVE_UP: EntryBody = { entry: 'give-up-requested' };
    const over = (deviceOn: DeviceOn) => nbd(concluded({ deviceOn, qemuError: undefined }));
    const byForce = (deviceOn: DeviceOn) => nbd(concluded({ deviceOn, qemuError: undefined }), GIVE_UP);
    expect(urgentMove(over('SOURCE'), NOT_ASKED)).toBeUndefined();
    expect(urgentMove(byForce('SOURCE'), NOT_ASKED)).toBe('YANK');
    expect(urgentMove(byForce('SOURCE'), { ...NOT_ASKED, yank: true })).toBeUndefined();
    for (const elsewhere of ['DESTINATION', 'ELSEWHERE', 'NOWHERE'] as const)
      expect(urgentMove(byForce(elsewhere), NOT_ASKED)).toBeUndefined();
  });

  it('break no connection of a copy on which a guest may be', () => {
    expect(urgent.mayBeBroken(nbd())).toBe(true);
    expect(urgent.mayBeBroken(nbd(pivot()))).toBe(false);
    expect(urgent.mayBeBroken(nbd(pivot(), concluded({ deviceOn: 'SOURCE' })))).toBe(true);
    for (const deviceOn of ['DESTINATION', 'ELSEWHERE', 'NOWHERE'] as const)
      expect(urgent.mayBeBroken(nbd(pivot(), concluded({ deviceOn })))).toBe(false);
    expect(urgent.mayBeBroken(jobOf(RUNNING))).toBe(false);
  });

  it('an overdue pivot to a network destination holds the guest, but not if nothing would end that', () => {
    const overdue = { ...NOT_ASKED, overdue: true, complete: true };
    for (const job of [nbd(pivot()), jobOf(RUNNING, READY, pivot())]) {
      expect(nextMove(job, seen('ready'), overdue)).toMatchObject({ move: 'hold-guest' });
      expect(nextMove(job, seen('ready'), { ...overdue, stopsSoon: false })).toEqual({ move: 'wait' });
    }
    const unbounded = jobWith({ destination: NBD, holdsWithoutBound: true }, RUNNING, READY, pivot());
    expect(nextMove(unbounded, seen('ready'), overdue)).toEqual({ move: 'wait' });
  });
});

describe.each([
  ['a pull', PULL],
  ['a commit of lower images', COMMIT],
] as const)('%s', (_name, kind) => {
  const { data, overlay } = HANDOVER;
  const job = (...entries: readonly EntryBody[]) => jobWith({ ...kind, handover: HANDOVER }, ...entries);
  const none = { ...seen('running'), job: undefined };
  const failed: EntryBody = { entry: 'flush-failed', failure: failure('NO_SPACE', { path: data.path, why: 'full' }) };
  const NEW = { is: 'NEW' } as const;

  it('that is done before its start is answered has run', () => {
    expect(nextMove(job(), seen('concluded'), NOT_ASKED)).toEqual({ move: 'record', entry: RUNNING });
  });

  it('is finalized when what it moved is flushed, and never before; the guest runs on', () => {
    const pending = seen('pending');
    const flush = { move: 'flush', what: 'DATA', images: [data] };
    expect(nextMove(job(RUNNING), pending, NOT_ASKED)).toEqual(flush);
    expect(nextMove(job(RUNNING), pending, { ...NOT_ASKED, finalize: true })).toEqual(flush);
    const command = { execute: 'job-finalize', arguments: { id: JOB } };
    expect(nextMove(job(RUNNING, DATA_FLUSHED), pending, NOT_ASKED)).toMatchObject({ asks: 'finalize', command });
    expect(nextMove(job(RUNNING, DATA_FLUSHED), pending, { ...NOT_ASKED, finalize: true })).toEqual({ move: 'wait' });
  });

  it('with a flush that fails is cancelled, once, and keeps its present images', () => {
    const command = { execute: 'job-cancel', arguments: { id: JOB } };
    expect(nextMove(job(RUNNING, failed), seen('pending'), NOT_ASKED)).toMatchObject({ asks: 'forceEnd', command });
    const asked = { ...NOT_ASKED, forceEnd: true };
    expect(nextMove(job(RUNNING, failed), seen('pending'), asked)).toEqual({ move: 'wait' });
  });

  it.each([
    ['concluded', seen('concluded')],
    ['gone', none],
  ])('that is %s has concluded only when its header is flushed, and read back', (_how, what) => {
    const flush = { move: 'flush', what: 'HEADER', images: [data, overlay] };
    for (const before of [[RUNNING], [RUNNING, DATA_FLUSHED], [RUNNING, DATA_FLUSHED, CANCEL]])
      expect(nextMove(job(...before), what, NOT_ASKED)).toEqual(flush);
    const read = { ...what, header: NEW };
    expect(nextMove(job(RUNNING, DATA_FLUSHED, HEADER_FLUSHED), read, NOT_ASKED)).toMatchObject({
      move: 'record',
      entry: { entry: 'concluded', header: NEW },
    });
    // Nothing more can be found out.
    expect(nextMove(job(RUNNING, failed), what, NOT_ASKED)).toMatchObject({
      entry: { entry: 'concluded', header: { is: 'UNKNOWN', why: expect.stringContaining('full') as string } },
    });
  });

  it('that failed, or whose QEMU is gone, needs no flush', () => {
    expect(nextMove(job(RUNNING), seen('concluded', { error: 'x' }), NOT_ASKED)).toMatchObject({
      entry: { entry: 'concluded', qemuError: 'x' },
    });
    const OLD = { is: 'OLD', backingFile: '/vm/mid.qcow2' } as const;
    for (const header of [NEW, OLD])
      expect(nextMove(job(RUNNING), { ...ENDED, header }, NOT_ASKED)).toMatchObject({
        entry: { how: 'QEMU_ENDED', header },
      });
  });

  it('of an older service that has held the guest releases it first', () => {
    const still = seen('pending', {}, { guestRuns: false });
    expect(nextMove(job(RUNNING, HELD), still, NOT_ASKED)).toEqual({ move: 'release-guest' });
  });

  it('waits while the guest migrates', () => {
    expect(nextMove(job(RUNNING), seen('pending', {}, { guestMigrates: true }), NOT_ASKED)).toEqual({ move: 'wait' });
  });

  it('that is cancelled while it waits is not finalized', () => {
    expect(nextMove(job(RUNNING, CANCEL), seen('pending'), NOT_ASKED)).toMatchObject({ asks: 'forceEnd' });
  });

  it('that QEMU ends at once is refused; one that does not exist is, too', () => {
    expect(nextMove(job(), seen('concluded', { error: 'x' }), NOT_ASKED)).toEqual({ move: 'undo-start' });
    expect(nextMove(job(), none, NOT_ASKED)).toEqual({ move: 'undo-start' });
  });
});

it('a commit that concludes while the guest migrates does not match any point in time: its header is not looked for', () => {
  const job = jobWith({ ...COMMIT, handover: HANDOVER }, RUNNING);
  const move = nextMove(job, seen('concluded', {}, { guestMigrates: true }), NOT_ASKED);
  expect(move).toMatchObject({ move: 'record', entry: { how: 'VANISHED' } });
  expect(move).not.toHaveProperty('entry.header');
});

it('a pull of an older service is flushed and read back as any other: its plan says which header', () => {
  const command = {
    execute: 'block-stream',
    arguments: {
      'job-id': JOB,
      device: 'top',
      'backing-file': BASE,
      speed: 0,
      'on-error': 'report',
      'auto-finalize': false,
      'auto-dismiss': true,
    },
  } as const;
  const plan = [{ name: 'start-pull', run: { do: 'qmp', command } }] as const;
  const images = [{ node: 'top', path: SOURCE, format: 'qcow2' }];
  const move = (...entries: readonly EntryBody[]) => jobWith({ ...PULL, plan }, ...entries);
  expect(nextMove(move(RUNNING), seen('pending'), NOT_ASKED)).toEqual({ move: 'flush', what: 'DATA', images });
  expect(nextMove(move(RUNNING), seen('concluded'), NOT_ASKED)).toEqual({ move: 'flush', what: 'HEADER', images });
});

/** A copy whose guest is slowed down. */
const slowed = (...entries: readonly EntryBody[]) =>
  jobWith({ options: THROTTLING }, RUNNING, VERDICT, THROTTLE, THROTTLED, ...entries);

describe('a guest that writes too much for its copy', () => {
  const may = (...entries: readonly EntryBody[]) => jobWith({ options: THROTTLING }, RUNNING, ...entries);
  const lift = (because: 'OVER' | 'TIME_IS_UP', isGoing: boolean): Move => ({
    move: 'lift-throttle',
    because,
    isGoing,
  });

  it.each<[string, Job, Seen, Asked, Move]>([
    ['is slowed down as was requested', may(VERDICT, THROTTLE), seen('running'), {}, { move: 'throttle' }],
    ['is not slowed down again after its time', slowed(TIME_IS_UP), seen('running'), {}, WAIT],
    ['is let go when its time is over', slowed(), seen('running'), { throttleIsOver: true }, lift('TIME_IS_UP', true)],
    [
      'is let go after a pivot',
      slowed(READY, pivot(), concluded({ deviceOn: 'DESTINATION' })),
      gone('DESTINATION'),
      {},
      lift('OVER', false),
    ],
    [
      'is let go after a cancel',
      slowed(FORCE, concluded({ qemuError: 'x' })),
      seen('concluded'),
      {},
      lift('OVER', false),
    ],
    [
      'is let go if the limit was only requested',
      may(THROTTLE, FORCE, concluded()),
      seen('concluded'),
      {},
      lift('OVER', false),
    ],
    ['is free with its QEMU', slowed(LOST), ENDED, {}, record({ entry: 'throttle-lifted', because: 'QEMU_ENDED' })],
    [
      'is free with its QEMU, also later',
      slowed(LOST),
      SILENT,
      {},
      record({ entry: 'throttle-lifted', because: 'QEMU_ENDED' }),
    ],
    ['waits while its QEMU is silent', slowed(concluded()), SILENT, {}, WAIT],
    ['is left if its job is given up', slowed(FORCE, GIVEN_UP), SILENT, {}, SETTLE],
    ['is left if the clean-up is given up', slowed(concluded()), SILENT, { givenUp: true }, LEAVE],
    ['is let go if QEMU is back in time', slowed(FORCE, GIVEN_UP), seen('running'), {}, lift('OVER', true)],
    ['is free then, and its mark is left', slowed(TIME_IS_UP, FORCE, GIVEN_UP), seen('running'), {}, SETTLE],
  ])('%s', (_what, job, what, asked, move) => {
    expect(nextMove(job, what, { ...NOT_ASKED, ...asked })).toEqual(move);
  });
});

describe('the table', () => {
  const started = jobOf({ entry: 'step-started', step: 'start-mirror' });
  const pull = (...entries: readonly EntryBody[]) => jobWith({ ...PULL, handover: HANDOVER }, RUNNING, ...entries);
  const failed: EntryBody = { entry: 'flush-failed', failure: failure('BUG', { id: '1' }) };
  const pivoting = (...entries: readonly EntryBody[]) => jobOf(RUNNING, READY, pivot('ALWAYS'), ...entries);
  const cancelling = (...entries: readonly EntryBody[]) => jobOf(RUNNING, READY, CANCEL, ...entries);
  const paused = seen('standby', { paused: true });
  const USER: EntryBody = { entry: 'paused', reason: 'USER' };
  const blocking = jobWith({ options: { writeMode: 'BLOCKING' } }, RUNNING, READY, FORCE);
  const slower = jobOf(RUNNING, { entry: 'speed-requested', bandwidthBytesPerSecond: 77 });
  const held = seen('ready', {}, { guestRuns: false });
  const leaving = seen('ready', {}, { guestMigrates: true });

  // One that the row decides, in the order of the rows.
  const examples: readonly (readonly [words: string, Job, Seen, Asked, what: string])[] = [
    ['guest held too long', pivoting(HELD), seen('concluded'), { heldTooLong: true }, 'release-guest'],
    ['pull or commit', pull(), seen('concluded'), {}, 'flush'],
    ['any but STARTING', jobOf(RUNNING), ENDED, {}, 'concluded'],
    ['guest held', jobOf(RUNNING, HELD), seen('running'), {}, 'release-guest'],
    ['guest slowed down, `concluded` is recorded', slowed(concluded()), seen('concluded'), {}, 'lift-throttle'],
    ['`concluded` is recorded', jobOf(RUNNING, concluded()), seen('concluded'), {}, 'settle'],
    ['to be ended by force', jobOf(RUNNING, FORCE), SILENT, { givenUp: true }, 'concluded'],
    ['concluded, clean-up given up', jobOf(RUNNING, concluded()), SILENT, { givenUp: true }, 'leave'],
    ['any', jobOf(RUNNING), SILENT, {}, 'wait'],
    ['STARTING', started, ENDED, {}, 'running'],
    ['STARTING', jobOf(), gone(), {}, 'undo-start'],
    ['STARTING', jobOf(), seen('running', { begun: false }), {}, 'wait'],
    ['STARTING', jobOf(), seen('running'), {}, 'running'],
    ['RUNNING, pull or commit; its flush has failed', pull(failed), seen('pending'), {}, 'job-cancel'],
    ['RUNNING, pull or commit', pull(), seen('pending'), {}, 'flush'],
    ['RUNNING, pull or commit; its data is flushed', pull(DATA_FLUSHED), seen('pending'), {}, 'job-finalize'],
    ['RUNNING, pull or commit', pull(DATA_FLUSHED), seen('pending'), { finalize: true }, 'wait'],
    ['RUNNING, CANCELLING', jobOf(RUNNING), seen('ready'), {}, 'ready'],
    ['its time limit has expired', jobOf(RUNNING), seen('running'), { timeIsUp: true }, 'cancel-requested'],
    [
      'the service has closed its connection',
      jobOf(RUNNING),
      seen('running'),
      { connectionBroken: true },
      'cancel-requested',
    ],
    ['running', jobOf(RUNNING), seen('running', { speedBytesPerSecond: 77 }), {}, 'speed'],
    [
      'paused for space, by no client; `space` ENOUGH is recorded',
      jobOf(RUNNING, NO_SPACE, spaceIs('ENOUGH')),
      seen('paused', { ioStatus: 'nospace' }),
      {},
      'job-resume',
    ],
    [
      'RUNNING, on_ready PIVOT; `policy-step` PAUSE_GUEST is recorded',
      jobWith({ options: { onReady: 'PIVOT' } }, RUNNING, policyStep('PAUSE_GUEST')),
      seen('running'),
      { bitmaps: false },
      'carry-bitmaps',
    ],
    [
      'RUNNING; `policy-step` PAUSE_GUEST is recorded',
      jobOf(RUNNING, policyStep('PAUSE_GUEST')),
      seen('running'),
      {},
      'hold-guest',
    ],
    [
      'guest slowed down; its longest time is over, or the journal was lost',
      slowed(),
      seen('running'),
      { throttleIsOver: true },
      'lift-throttle',
    ],
    [
      'RUNNING, READY, PIVOTING; `throttle-requested` is recorded',
      jobWith({ options: THROTTLING }, RUNNING, VERDICT, THROTTLE),
      seen('running'),
      {},
      'throttle',
    ],
    ['CANCELLING', cancelling(), seen('aborting'), {}, 'wait'],
    ['CANCELLING, not by force', cancelling(), leaving, {}, 'wait'],
    ['CANCELLING, not by force', jobOf(RUNNING, READY, USER, CANCEL), paused, {}, 'job-resume'],
    ['CANCELLING, not by force', cancelling(), seen('ready'), {}, 'followed'],
    ['CANCELLING, not by force; `followed` is recorded', cancelling(FOLLOWED), seen('ready'), {}, 'block-job-cancel'],
    [
      'CANCELLING, `on_ready` FINISH',
      jobOf(RUNNING, READY, FINISH, NO_SPACE),
      seen('standby', { ioStatus: 'nospace' }),
      {},
      'wait',
    ],
    ['CANCELLING, BLOCKING', blocking, seen('ready'), {}, 'hold-guest'],
    ['CANCELLING', jobOf(RUNNING, CANCEL), seen('running'), {}, 'job-cancel'],
    ['PIVOTING', jobOf(RUNNING, READY, USER, pivot()), paused, {}, 'job-resume'],
    ['PIVOTING', pivoting(NO_SPACE), seen('standby', { ioStatus: 'nospace' }), {}, 'wait'],
    ['PIVOTING', pivoting(), leaving, {}, 'wait'],
    ['PIVOTING', pivoting(), seen('ready'), { destinationMoved: true }, 'cancel-requested'],
    ['PIVOTING', pivoting(), seen('waiting'), { complete: true }, 'wait'],
    ['PIVOTING', pivoting(HELD), held, { bitmaps: false }, 'release-guest'],
    ['PIVOTING', pivoting(HELD), held, { heldTooLong: true }, 'release-guest'],
    ['PIVOTING', pivoting(), seen('ready'), { stopsSoon: false }, 'wait'],
    ['PIVOTING', pivoting(), seen('ready'), { bitmaps: false }, 'carry-bitmaps'],
    ['PIVOTING', pivoting(), seen('ready'), {}, 'hold-guest'],
    ['PIVOTING', pivoting(HELD), seen('standby', {}, { guestRuns: false }), {}, 'wait'],
    ['PIVOTING', pivoting(HELD), held, {}, 'job-complete'],
    ['another limit, a pause or another write mode is requested', slower, seen('waiting'), {}, 'change-refused'],
    ['another limit, a pause or another write mode is requested', slower, seen('running'), {}, 'block-job-set-speed'],
    ['RUNNING, READY; `space` FULL is recorded', jobOf(RUNNING, spaceIs('FULL')), seen('running'), {}, 'job-pause'],
    ['RUNNING, READY', jobOf(RUNNING), leaving, {}, 'wait'],
    [
      'READY, `config_owner` EXTERNAL, and `on_ready` is not FINISH; the gate is not open',
      jobWith({ options: { configOwner: 'EXTERNAL' } }, RUNNING, READY),
      seen('ready'),
      {},
      'open-gate',
    ],
    [
      'READY, `on_ready` PIVOT, and its gate has no record',
      jobWith({ options: { configOwner: 'EXTERNAL', onReady: 'PIVOT' } }, RUNNING, READY, OPENED),
      seen('ready'),
      {},
      'wait',
    ],
    [
      'READY, on_ready',
      jobWith({ options: { onReady: 'PIVOT' } }, RUNNING, READY),
      seen('ready'),
      {},
      'pivot-requested',
    ],
    ['any', jobOf(RUNNING), seen('running'), {}, 'wait'],
  ];
  const urgentExamples: readonly (readonly [words: string, Job, Asked, urgent.UrgentMove])[] = [
    ['guest held, or QEMU silent, for 6 seconds', nbd(pivot(), HELD), { waitsFarTooLong: true }, 'YANK_COPIES'],
    [
      'concluded, and its clean-up given up',
      nbd(concluded({ deviceOn: 'SOURCE' }), { entry: 'give-up-requested' }),
      {},
      'YANK',
    ],
    ['to be ended by force', nbd(FORCE), {}, 'YANK'],
    ['a network copy that was asked to end', nbd(pivot()), { complete: true, endsTooLong: true }, 'YANK'],
  ];
  const rows = table.TABLE.slice(urgent.URGENT.length);

  it('has an example of each row, in their order', () => {
    expect(urgentExamples.map(([words]) => words)).toEqual(urgent.URGENT.map(({ job }) => job));
    expect(examples.map(([words]) => words)).toEqual(rows.map(({ job }) => job));
    expect(new Set(table.TABLE.map(({ job, qemu }) => `${job} | ${qemu}`)).size).toBe(table.TABLE.length);
    expect(table.TABLE.filter(({ job, qemu, does }) => job === '' || qemu === '' || does === '')).toEqual([]);
  });

  it.each(examples.map((example, index) => [`${example[0]} | ${rows[index]?.qemu ?? ''}`, index, ...example] as const))(
    '%s',
    (_name, index, _words, job, what, asked, does) => {
      const chosen = table.nextRow(job, what, namesIn({ ...NOT_ASKED, ...asked }), {});
      expect(chosen?.row).toBe(rows[index]);
      const move = chosen?.move ?? WAIT;
      const says =
        move.move === 'record' ? move.entry.entry : move.move === 'command' ? move.command.execute : move.move;
      expect(says).toBe(does);
      // A row and its journal entry use the same word.
      expect(rows[index]?.does).toContain(move.move === 'record' ? `\`${says}\`` : '');
    },
  );

  it.each(urgentExamples.map((example, index) => [index, ...example] as const))(
    'urgent row %i: %s',
    (index, _words, job, asked, expected) => {
      const chosen = urgent.URGENT.find(({ when }) => when({ job, asked: namesIn(asked) }) === expected);
      expect(chosen).toBe(urgent.URGENT[index]);
      expect(urgentMove(job, asked)).toBe(expected);
    },
  );
});
