import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { failure } from '../../../../src/core/errors.ts';
import {
  advance,
  allows,
  begin,
  fold,
  hasEnded,
  IllegalTransition,
  type Job,
  type JobState,
} from '../../../../src/core/job/job.ts';
import type { EntryBody } from '../../../../src/core/job/journal-entry.ts';
import {
  ACCEPTED,
  CANCEL,
  CONCLUDED,
  CREATED,
  DATA_FLUSHED,
  ended,
  FINISH,
  FOLLOWED,
  FORCE,
  HELD,
  jobOf,
  journalOf,
  LIFTED,
  MADE,
  pivot,
  policyStep,
  READY,
  RUNNING,
  SEEN_AT,
  STORIES,
  spaceIs,
  THROTTLE,
  THROTTLED,
  timeOf,
  VERDICT,
} from '../stories.ts';

const FAILURE = failure('BUG', { id: '1' });
const STATES = [
  'STARTING',
  'RUNNING',
  'READY',
  'PIVOTING',
  'CANCELLING',
  'COMPLETED',
  'CANCELLED',
  'FAILED',
  'UNRESOLVED',
] as const satisfies readonly JobState[];

const A_JOB: Readonly<Record<JobState, Job>> = {
  STARTING: jobOf(),
  RUNNING: jobOf(RUNNING),
  READY: jobOf(RUNNING, READY),
  PIVOTING: jobOf(RUNNING, READY, pivot()),
  CANCELLING: jobOf(RUNNING, CANCEL),
  COMPLETED: jobOf(RUNNING, READY, pivot(), CONCLUDED, ended('COMPLETED')),
  CANCELLED: jobOf(RUNNING, CANCEL, CONCLUDED, ended('CANCELLED')),
  FAILED: jobOf({ entry: 'refused', failure: FAILURE }),
  UNRESOLVED: jobOf(RUNNING, READY, pivot(), CONCLUDED, ended('UNRESOLVED')),
};

/**
 * The state after each entry in STARTING, RUNNING, READY, PIVOTING and CANCELLING; '-': refused. An ended job refuses
 * all.
 */
const TABLE: Readonly<Record<string, readonly [EntryBody, ...(JobState | '-')[]]>> = {
  accepted: [ACCEPTED, '-', '-', '-', '-', '-'],
  followed: [FOLLOWED, '-', '-', '-', '-', 'CANCELLING'],
  'step-started': [{ entry: 'step-started', step: 's' }, 'STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  'step-done': [{ entry: 'step-done', step: 's' }, 'STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  'step-refused': [
    { entry: 'step-refused', step: 's', failure: FAILURE },
    ...(['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  'step-unknown': [
    { entry: 'step-unknown', step: 's', failure: FAILURE },
    ...(['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  'undo-started': [
    { entry: 'undo-started', step: 's', failure: FAILURE },
    ...(['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  'undo-done': [{ entry: 'undo-done', step: 's' }, 'STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  'undo-failed': [
    { entry: 'undo-failed', step: 's', failure: FAILURE },
    ...(['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  refused: [{ entry: 'refused', failure: FAILURE }, 'FAILED', '-', '-', '-', '-'],
  running: [RUNNING, 'RUNNING', '-', '-', '-', '-'],
  ready: [READY, '-', 'READY', '-', '-', 'CANCELLING'],
  paused: [{ entry: 'paused', reason: 'NO_SPACE' }, '-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  resumed: [{ entry: 'resumed' }, '-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  space: [spaceIs('LOW'), '-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  'pause-requested': [{ entry: 'pause-requested' }, '-', 'RUNNING', 'READY', '-', '-'],
  'resume-requested': [{ entry: 'resume-requested' }, '-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  'speed-requested': [
    { entry: 'speed-requested', bandwidthBytesPerSecond: 1 },
    ...(['-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  speed: [
    { entry: 'speed', bandwidthBytesPerSecond: 1 },
    ...(['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  'change-refused': [
    { entry: 'change-refused', change: 'SPEED', failure: FAILURE },
    ...(['-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  'policy-step': [policyStep('LIMIT'), '-', 'RUNNING', 'READY', 'PIVOTING', '-'],
  'write-mode': [
    { entry: 'write-mode', writeMode: 'BLOCKING' },
    ...(['-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  'asked-again': [{ entry: 'asked-again' }, 'STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  // These jobs have no gate: pivot-gate.test.ts has those that do.
  'gate-opened': [{ entry: 'gate-opened', token: 't' }, '-', '-', '-', '-', '-'],
  'config-recorded': [{ entry: 'config-recorded', token: 't' }, '-', '-', '-', '-', '-'],
  'pivot-requested': [pivot(), '-', '-', 'PIVOTING', '-', '-'],
  'cancel-requested': [CANCEL, 'STARTING', 'CANCELLING', 'CANCELLING', 'CANCELLING', 'CANCELLING'],
  'finish-requested': [FINISH, '-', '-', 'CANCELLING', '-', '-'],
  'give-up-requested': [{ entry: 'give-up-requested' }, '-', '-', '-', '-', '-'],
  // These jobs may not slow their guest down: guest-throttle.test.ts has those that may.
  'throttle-requested': [THROTTLE, '-', '-', '-', '-', '-'],
  throttled: [THROTTLED, '-', '-', '-', '-', '-'],
  'throttle-lifted': [LIFTED, '-', '-', '-', '-', '-'],
  'throttle-not-taken': [
    { entry: 'throttle-not-taken', failure: FAILURE },
    ...(['-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'] as const),
  ],
  verdict: [VERDICT, '-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  'guest-held': [HELD, 'STARTING', 'RUNNING', '-', 'PIVOTING', 'CANCELLING'],
  'guest-released': [{ entry: 'guest-released' }, 'STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  flushed: [DATA_FLUSHED, '-', 'RUNNING', '-', '-', 'CANCELLING'],
  'flush-failed': [{ entry: 'flush-failed', failure: FAILURE }, '-', 'RUNNING', '-', '-', 'CANCELLING'],
  concluded: [CONCLUDED, '-', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING'],
  'ended COMPLETED': [ended('COMPLETED'), 'COMPLETED', 'COMPLETED', 'COMPLETED', 'COMPLETED', 'COMPLETED'],
  'ended CANCELLED': [ended('CANCELLED'), 'CANCELLED', 'CANCELLED', 'CANCELLED', 'CANCELLED', 'CANCELLED'],
  'ended FAILED': [ended('FAILED'), 'FAILED', 'FAILED', 'FAILED', 'FAILED', 'FAILED'],
  'ended UNRESOLVED': [ended('UNRESOLVED'), 'UNRESOLVED', 'UNRESOLVED', 'UNRESOLVED', 'UNRESOLVED', 'UNRESOLVED'],
};

describe('the pause of a job that waits for space', () => {
  const noSpace: EntryBody = { entry: 'paused', reason: 'NO_SPACE' };
  const resumed: EntryBody = { entry: 'resumed' };
  const [pause, resume] = [{ entry: 'pause-requested' }, { entry: 'resume-requested' }] as const;

  it.each<[string, EntryBody[], Partial<Job>]>([
    ['is not the pause of a client', [spaceIs('FULL'), noSpace], { pausedByClient: false, pauseReason: 'NO_SPACE' }],
    ['can become one', [noSpace, pause, noSpace], { pausedByClient: true, wantsPaused: undefined }],
    ['does not count as one after a resume', [pause, noSpace, resume], { pausedByClient: false, wantsPaused: false }],
    ['of another client is one', [{ entry: 'paused', reason: 'USER' }], { pausedByClient: true }],
    ['is forgotten for a pivot', [pause, READY, pivot()], { pausedByClient: false, wantsPaused: undefined }],
    ['does not fulfil a resume', [resume, noSpace], { wantsPaused: false }],
    ['ends without fulfilling a pause', [noSpace, pause, resumed], { wantsPaused: true, pausedByClient: true }],
    [
      'that a client ends is not repeated before another look',
      [spaceIs('FULL'), noSpace, resumed],
      { space: undefined },
    ],
    ['after ENOUGH counts', [spaceIs('ENOUGH'), noSpace], { space: undefined, spaceRetries: 1 }],
    [
      'after ENOUGH counts twice',
      [spaceIs('ENOUGH'), noSpace, spaceIs('ENOUGH'), resumed, noSpace],
      { spaceRetries: 2 },
    ],
    ['at a full disk counts from the beginning', [spaceIs('ENOUGH'), noSpace, spaceIs('FULL')], { spaceRetries: 0 }],
    ['that a client resumes counts from the beginning', [spaceIs('ENOUGH'), noSpace, resume], { spaceRetries: 0 }],
  ])('%s', (_what, entries, expected) => {
    expect(jobOf(RUNNING, ...entries)).toMatchObject(expected);
  });
});

describe('the table of states', () => {
  const rows = Object.entries(TABLE).flatMap(([name, [entry, ...after]]) =>
    STATES.map((state, index) => ({ name, state, entry, after: after[index] ?? '-' })),
  );

  it.each(rows.filter(({ after }) => after !== '-'))('$name in $state: $after', ({ state, entry, after }) => {
    const job = A_JOB[state];
    expect(job.state).toBe(state);
    expect(allows(job, entry)).toBe(true);
    const next = advance(job, { ...entry, revision: job.revision + 1, time: timeOf(99) });
    expect(next).toMatchObject({ state: after, revision: job.revision + 1 });
  });

  it.each(rows.filter(({ after }) => after === '-'))('$name in $state is refused', ({ state, entry }) => {
    const job = A_JOB[state];
    expect(job.state).toBe(state);
    expect(allows(job, entry)).toBe(false);
    expect(() => advance(job, { ...entry, revision: job.revision + 1, time: '' })).toThrow(IllegalTransition);
  });

  it('has a row for every kind of entry', () => {
    const kinds = new Set(Object.keys(TABLE).map((name) => name.split(' ')[0]));
    const known: Record<EntryBody['entry'], true> = {
      accepted: true,
      'step-started': true,
      space: true,
      'step-done': true,
      'step-refused': true,
      'step-unknown': true,
      'undo-started': true,
      'undo-done': true,
      'undo-failed': true,
      refused: true,
      running: true,
      ready: true,
      paused: true,
      resumed: true,
      'pause-requested': true,
      'resume-requested': true,
      'speed-requested': true,
      'change-refused': true,
      'asked-again': true,
      followed: true,
      verdict: true,
      'policy-step': true,
      'write-mode': true,
      'throttle-requested': true,
      throttled: true,
      'throttle-lifted': true,
      'throttle-not-taken': true,
      speed: true,
      'gate-opened': true,
      'config-recorded': true,
      'pivot-requested': true,
      'cancel-requested': true,
      'give-up-requested': true,
      'finish-requested': true,
      'guest-held': true,
      'guest-released': true,
      flushed: true,
      'flush-failed': true,
      concluded: true,
      ended: true,
    };
    expect(kinds).toEqual(new Set(Object.keys(known)));
  });

  it.each(['COMPLETED', 'CANCELLED', 'FAILED', 'UNRESOLVED'] as const)('says that %s is the end', (state) => {
    expect(hasEnded(A_JOB[state])).toBe(true);
  });
});

describe('a journal', () => {
  it('must begin with revision 1, accepted', () => {
    expect(() => begin({ ...RUNNING, revision: 1, time: timeOf(1) })).toThrow(IllegalTransition);
    expect(() => begin({ ...ACCEPTED, revision: 2, time: timeOf(1) })).toThrow(IllegalTransition);
  });

  it.each([-1, 0, 1, 3, Number.NaN])('cannot go on from revision 1 with revision %d', (revision) => {
    expect(() => advance(jobOf(), { ...RUNNING, revision, time: timeOf(2) })).toThrow(IllegalTransition);
  });

  it('has no request and no second result after the result, however the caller and QEMU race', () => {
    for (const [name, , entries] of STORIES) {
      if (entries.length === 0) continue;
      const job = jobOf(...entries, CONCLUDED);
      for (const late of [pivot(), CANCEL, FORCE, FINISH, CONCLUDED])
        expect(allows(job, late), `${name}, ${late.entry}`).toBe(false);
    }
  });
});

describe('a job', () => {
  it('is what its whole journal says, however much was read before', () => {
    const bodies = Object.values(TABLE).map(([entry]) => entry);
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...bodies), { maxLength: 40 }), (tries) => {
        const story: EntryBody[] = [];
        let job = jobOf();
        for (const body of tries) {
          if (!allows(job, body)) continue;
          story.push(body);
          job = advance(job, { ...body, revision: job.revision + 1, time: timeOf(job.revision + 1) });
        }
        expect(fold(journalOf(ACCEPTED, ...story))).toEqual(job);
        expect(job.revision).toBe(story.length + 1);
      }),
    );
  });

  it('knows when it was accepted, READY, seen to follow, and ended', () => {
    expect(jobOf(RUNNING, READY, pivot(), HELD, CONCLUDED, ended('COMPLETED'))).toMatchObject({
      createTime: timeOf(1),
      ready: { time: timeOf(3), revision: 3 },
      followed: { at: SEEN_AT, revision: 3 },
      followedSinceAsked: false,
      ended: { time: timeOf(7) },
    });
  });

  it('keeps a pause until it is resumed, is READY, or has its result', () => {
    const paused: EntryBody = { entry: 'paused', reason: 'NO_SPACE' };
    expect(jobOf(RUNNING, paused).pauseReason).toBe('NO_SPACE');
    for (const over of [{ entry: 'resumed' } as const, READY, CONCLUDED])
      expect(jobOf(RUNNING, paused, over).pauseReason).toBeUndefined();
  });

  it('keeps the first failure of its start, and none if QEMU runs it after all', () => {
    const first = failure('QEMU_UNREACHABLE', { domain: 'vm1', why: 'no answer' });
    const unknown: EntryBody = { entry: 'step-unknown', step: 'start-mirror', failure: first };
    const second: EntryBody = { entry: 'step-refused', step: 'other', failure: FAILURE };
    expect(jobOf(unknown, second).failure).toEqual(first);
    const undone: EntryBody = { entry: 'undo-started', step: 'start-mirror', failure: first };
    expect(jobOf(undone, second).failure).toEqual(first);
    expect(jobOf(unknown, RUNNING).failure).toBeUndefined();
  });

  it('knows the file that it made, its last request, and how far each step is', () => {
    const job = jobOf(
      { entry: 'step-started', step: 'create-destination' },
      CREATED,
      { entry: 'step-started', step: 'start-mirror' },
      RUNNING,
      CANCEL,
      FORCE,
    );
    expect(job.madeFile).toEqual(MADE);
    expect(job.intent).toMatchObject(FORCE);
    expect([...job.steps]).toEqual([
      ['create-destination', 'DONE'],
      ['start-mirror', 'STARTED'],
    ]);
  });

  it('knows whether its guest is held', () => {
    expect(jobOf(RUNNING, READY, pivot(), HELD).guestHeld).toBe(true);
    expect(jobOf(RUNNING, READY, pivot(), HELD, { entry: 'guest-released' }).guestHeld).toBe(false);
  });

  it('begins with an entry of this version, and no other', () => {
    const [first] = journalOf(ACCEPTED);
    for (const version of [1, 3, undefined]) {
      expect(() => begin({ ...first, version } as unknown as typeof first)).toThrow(/a journal of version .*, not 2/);
    }
  });
});
