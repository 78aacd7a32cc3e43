/**
 * Every job can be ended: for each journal, each answer of QEMU and each request, the table of core/next-move leads to
 * an end once an end is requested, in a limited number of looks. A job without a request either continues, or waits for
 * an event that has a name.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { HostClock } from '../../../src/agent/host/host-clock.ts';
import { AskedSoFar } from '../../../src/agent/job/asked-so-far.ts';
import { failure } from '../../../src/core/errors.ts';
import { writeModeOf } from '../../../src/core/job/end-policy.ts';
import { ending } from '../../../src/core/job/ending.ts';
import { hasMark, isSlowedDown } from '../../../src/core/job/guest-throttle.ts';
import { handoverOf } from '../../../src/core/job/handover-of.ts';
import { advance, allows, concludedJob, hasEnded, type Job } from '../../../src/core/job/job.ts';
import { isOverNetwork, isYanked } from '../../../src/core/job/job-facts.ts';
import type { Accepted, EntryBody } from '../../../src/core/job/journal-entry.ts';
import { outcomeOf } from '../../../src/core/job/outcome-of.ts';
import { mayPivot } from '../../../src/core/job/pivot-gate.ts';
import type { EndPolicy } from '../../../src/core/job-options.ts';
import { type Heard, HOLD_LIMIT_MS, lookAgainMs } from '../../../src/core/moves/circumstances.ts';
import type { Move, Seen } from '../../../src/core/moves/moves.ts';
import { nextMove } from '../../../src/core/moves/next-move.ts';
import { type UrgentMove, urgentMove, yankOf } from '../../../src/core/moves/urgent-move.ts';
import { flushesOf } from '../../../src/core/qemu/flush.ts';
import { NO_EFFECT } from '../../../src/core/qemu/limits.ts';
import { GOES_ON, ModelQemu, type ModelState, QEMU_JOB_STATUSES } from '../../support/fake-qemu/model-qemu.ts';
import {
  ACTIVE_COMMIT,
  CANCEL,
  COMMIT,
  DATA_FLUSHED,
  DESTINATION,
  FORCE,
  HANDOVER,
  HEADER_FLUSHED,
  HELD,
  jobWith,
  OPTIONS,
  POLICY,
  PULL,
  pivot,
  policyStep,
  READY,
  RUNNING,
  STORIES,
  THROTTLE,
  THROTTLED,
  THROTTLING,
  TIME_IS_UP,
  timeOf,
  VERDICT,
} from '../core/stories.ts';

// The clock that all waits read: a look takes no time, a wait takes its given time.
let clockMs = 0;
const KERNEL = { upMs: () => clockMs, counts: '' };
beforeAll(() => {
  // Not the mocks of the test runner, which keep every call.
  Object.defineProperty(performance, 'now', { configurable: true, value: () => clockMs });
});
afterAll(() => void Reflect.deleteProperty(performance, 'now'));

// The possible contents of a journal

const NBD: Partial<Accepted> = {
  destination: {
    node: 'n',
    path: DESTINATION,
    format: 'RAW',
    target: {
      kind: 'nbd',
      nbd: { server: { kind: 'tcp', host: 'h', port: 1 }, exportName: 'e', tlsCredentialsId: '', tlsHostname: '' },
    },
  },
};
const KINDS: Readonly<Record<string, Parameters<typeof jobWith>[0]>> = {
  copy: {},
  'blocking copy': { options: { writeMode: 'BLOCKING' } },
  'gated copy': { options: { configOwner: 'EXTERNAL' } },
  'copy over the network': NBD,
  'blocking copy over the network': { ...NBD, options: { writeMode: 'BLOCKING' } },
  pull: { ...PULL, handover: HANDOVER },
  commit: { ...COMMIT, handover: HANDOVER },
  'commit of an older service': COMMIT,
  'active commit': ACTIVE_COMMIT,
};
const FLUSH_FAILED: EntryBody = { entry: 'flush-failed', failure: failure('BUG', { id: '2' }) };
/** For a pull, or a commit of lower images. */
const MORE_OF_ONE_STEP: readonly (readonly [string, readonly EntryBody[]])[] = [
  ['running, its data flushed', [RUNNING, DATA_FLUSHED]],
  ['running, its header flushed', [RUNNING, DATA_FLUSHED, HEADER_FLUSHED]],
  ['running, its data not flushed', [RUNNING, FLUSH_FAILED]],
  ['running, its header not flushed', [RUNNING, DATA_FLUSHED, FLUSH_FAILED]],
  ['cancelled, its data flushed', [RUNNING, DATA_FLUSHED, CANCEL]],
  ['cancelled, its header flushed', [RUNNING, DATA_FLUSHED, CANCEL, HEADER_FLUSHED]],
];
function concludedOn(deviceOn: 'SOURCE' | 'DESTINATION', qemuError?: string): EntryBody {
  return { entry: 'concluded', how: 'CONCLUDED', qemuError, deviceOn, devicePath: '/vm/image' };
}
const GATE: EntryBody = { entry: 'gate-opened', token: 'token' };
const STARTED: EntryBody = { entry: 'step-started', step: 'start-mirror' };
const PAUSES: EndPolicy = { ...POLICY, atDeadline: 'PAUSE_GUEST', maxGuestPauseMs: 1000 };
const TO_PAUSE = policyStep('PAUSE_GUEST');
const SLOWS: Parameters<typeof jobWith>[0] = { options: THROTTLING };
const MORE_STORIES: readonly (readonly [string, readonly EntryBody[], Parameters<typeof jobWith>[0]?])[] = [
  ['starting, and QEMU may have it', [STARTED]],
  ['running, then to pivot', [RUNNING], { options: { onReady: 'PIVOT' } }],
  ['concluded, cancelled', [RUNNING, concludedOn('SOURCE', 'Operation canceled')]],
  ['concluded, pivoted', [RUNNING, READY, pivot(), concludedOn('DESTINATION')]],
  ['ready, to pivot', [RUNNING, READY], { options: { onReady: 'PIVOT' } }],
  ['ready, its gate open', [RUNNING, READY, GATE]],
  ['ready, its owner has recorded it', [RUNNING, READY, GATE, { entry: 'config-recorded', token: 'token' }]],
  ['ready, to finish', [RUNNING, READY], { options: { onReady: 'FINISH' } }],
  ...(['HOLD', 'PIVOT', 'FINISH'] as const).map(
    (onReady) =>
      [
        `running, its guest to be paused, ${onReady}`,
        [RUNNING, TO_PAUSE],
        { options: { onReady, endPolicy: PAUSES } },
      ] as const,
  ),
  [
    'pivoting, its guest to be paused',
    [RUNNING, READY, pivot(), TO_PAUSE],
    { options: { onReady: 'PIVOT', endPolicy: PAUSES } },
  ],
  ['running, a pause allowed', [RUNNING], { options: { onReady: 'PIVOT', endPolicy: PAUSES } }],
  ['running, to go on at the deadline', [RUNNING], { options: { endPolicy: { ...POLICY, atDeadline: 'HOLD' } } }],
  ['running, slowed down', [RUNNING, VERDICT, THROTTLE, THROTTLED], SLOWS],
  ['running, to be slowed down', [RUNNING, VERDICT], SLOWS],
  ['running, about to be slowed down', [RUNNING, VERDICT, THROTTLE], SLOWS],
  ['running, slowed down for too long', [RUNNING, VERDICT, THROTTLE, THROTTLED, TIME_IS_UP], SLOWS],
  ['pivoting, slowed down', [RUNNING, READY, VERDICT, THROTTLE, THROTTLED, pivot()], SLOWS],
  ['concluded, slowed down', [RUNNING, VERDICT, THROTTLE, THROTTLED, concludedOn('SOURCE', 'EIO')], SLOWS],
];
const WISHES: readonly (readonly EntryBody[])[] = [
  [],
  [{ entry: 'speed-requested', bandwidthBytesPerSecond: 7 }],
  [{ entry: 'pause-requested' }],
  [{ entry: 'speed-requested', bandwidthBytesPerSecond: 7 }, { entry: 'resume-requested' }],
  [policyStep('LIMIT')],
  [policyStep('BLOCKING')],
  [policyStep('BLOCKING'), { entry: 'write-mode', writeMode: 'BLOCKING' }],
];
const HOLDS = [
  { name: '', held: false, forMs: 0 },
  { name: ', its guest held', held: true, forMs: 0 },
  { name: ', its guest held for too long', held: true, forMs: HOLD_LIMIT_MS + 1 },
];

function isEnd({ entry }: EntryBody): boolean {
  return /^(pivot|cancel|finish)-requested$/.test(entry);
}

/** Undefined if no job can be like that. */
function after(job: Job, ...entries: readonly EntryBody[]): Job | undefined {
  let next = job;
  for (const entry of entries) {
    if (!allows(next, entry)) return undefined;
    next = advance(next, { ...entry, revision: next.revision + 1, time: timeOf(next.revision + 1) });
  }
  return next;
}

interface Case {
  readonly name: string;
  readonly job: Job;
  readonly heldForMs: number;
}

function* cases(): Generator<Case> {
  const stories: typeof MORE_STORIES = [
    ...STORIES.map(([name, , entries]) => [name, entries] as const),
    ...MORE_STORIES,
  ];
  for (const [kind, accepted] of Object.entries(KINDS)) {
    const isOneStep = accepted.destination === undefined && 'destination' in accepted;
    for (const [story, entries, more = {}] of isOneStep ? [...stories, ...MORE_OF_ONE_STEP] : stories) {
      // Only a copy whose guest does not wait for it has a policy.
      if (more === SLOWS && !kind.startsWith('copy')) continue;
      if (isOneStep && (entries.includes(READY) || more.options !== undefined)) continue;
      const begun = jobWith({ ...accepted, ...more, options: { ...accepted.options, ...more.options } });
      // A request comes before the wish for an end, because afterwards it may not be allowed any more.
      for (const [index, wishes] of WISHES.entries()) {
        for (const { name, held, forMs } of HOLDS) {
          const at = entries.findIndex(isEnd);
          const [first, last] = at === -1 ? [entries, []] : [entries.slice(0, at), entries.slice(at)];
          const isHeld = entries.includes(HELD);
          const job = after(begun, ...first, ...wishes, ...last, ...(held && !isHeld ? [HELD] : []));
          if (job === undefined || (isHeld && !held)) continue;
          yield { name: `${kind}, ${story}, wishes ${index}${name}`, job, heldForMs: forMs };
        }
      }
    }
  }
}

// The possible answers of QEMU

const GUESTS = [
  { guestRuns: true, guestMigrates: false },
  { guestRuns: false, guestMigrates: false },
  { guestRuns: true, guestMigrates: true },
];
const PLAIN: ModelState = {
  status: 'running',
  halt: undefined,
  guestRuns: true,
  guestMigrates: false,
  hangs: 'NOT',
  presence: 'UP',
  header: 'OLD',
  flushes: true,
};
/** The possible changes of the header when nobody looked, and of its images. */
const DISKS: readonly Partial<ModelState>[] = [
  { header: 'NEW' },
  { header: 'UNKNOWN' },
  { flushes: false },
  { header: 'NEW', flushes: false },
];

function* worlds(job: Job): Generator<ModelState> {
  const { kind } = job.accepted;
  const isMirror = kind === 'COPY' || kind === 'ACTIVE_COMMIT';
  yield { ...PLAIN, presence: 'ENDED' };
  yield { ...PLAIN, presence: 'SILENT' };
  if (handoverOf(job.accepted) !== undefined) {
    for (const disk of DISKS) yield { ...PLAIN, presence: 'ENDED', ...disk };
    for (const status of ['ABSENT', 'pending', 'concluded'] as const)
      for (const disk of DISKS) for (const guest of GUESTS) yield { ...PLAIN, status, ...guest, ...disk };
  }
  for (const status of ['ABSENT', ...QEMU_JOB_STATUSES] as const) {
    if (!isMirror && (status === 'ready' || status === 'standby')) continue;
    const stands = status === 'paused' || status === 'standby';
    const halts = stands ? (['USER', 'NO_SPACE', 'DRAINED'] as const) : ([undefined] as const);
    for (const halt of halts) {
      for (const guest of GUESTS) yield { ...PLAIN, status, halt, ...guest };
    }
    if (!isOverNetwork(job)) continue;
    if (stands) yield { ...PLAIN, status, hangs: 'DRAIN' };
    if (['running', 'ready'].includes(status))
      for (const hangs of ['JOB', 'ALL'] as const) yield { ...PLAIN, status, hangs };
  }
}

// The possible events

/** The callers that want the job to end. */
const ENDS: Readonly<Record<string, { readonly asks?: EntryBody; readonly timeLimitMs?: number }>> = {
  nobody: {},
  Abort: { asks: CANCEL },
  'Abort with force': { asks: FORCE },
  'the time limit': { timeLimitMs: 1 },
};
/**
 * From any moment on. Most need less than twenty looks; a guest that is held and rests while its copy hangs needs more.
 */
const MOST_LOOKS = 60;
/** A request is refused ten times in a second, for two seconds; before an end at the deadline there may be another one. */
const MOST_REFUSALS = 50;
/** After this number of looks without an event, nothing more happens. */
const STILL_AFTER = 6;

class Life {
  readonly #asked: AskedSoFar;
  readonly #qemu: ModelQemu;
  #job: Job;
  #end: EntryBody | undefined;
  refusals = 0;
  looks = 0;
  #stillFor = 0;
  #heardMs = clockMs;
  #isUnderWay = false;
  #connectionBroken = false;
  /** The limit of the guest's writes in QEMU. */
  #limit: number | undefined;
  /** Whether a limit was taken away while QEMU ran the job. */
  #drained = false;

  constructor(
    { job: { accepted, ...job }, heldForMs }: Case,
    world: ModelState,
    { asks, timeLimitMs }: (typeof ENDS)[string],
  ) {
    this.#job = { ...job, accepted: { ...accepted, options: { ...accepted.options, timeLimitMs } } };
    this.#end = asks;
    this.#limit = isSlowedDown(job) ? job.throttle?.limits.at(-1) : undefined;
    this.#qemu = new ModelQemu(accepted.kind, world, {
      speed: OPTIONS.bandwidthBytesPerSecond,
      pivots: job.pivotRequested,
    });
    this.#asked = new AskedSoFar(this.#job, new HostClock(KERNEL), () => undefined);
    this.#asked.note({ is: 'written', job: this.#job, generation: 1 });
    clockMs += heldForMs;
  }

  /** The error; undefined if there is none. */
  get wrong(): string | undefined {
    for (; this.looks < MOST_LOOKS && this.#stillFor < STILL_AFTER && !hasEnded(this.#job); this.looks += 1)
      this.#look();
    if (this.refusals > MOST_REFUSALS) return `QEMU refused ${this.refusals} times`;
    if (hasEnded(this.#job)) return this.#wrongEnd;
    const { state, wantsBandwidth, wantsPaused, switched } = this.#job;
    const why = this.#waitsFor();
    if (why === undefined || (this.looks >= MOST_LOOKS && this.#qemu.now.hangs === 'NOT'))
      return `${state}, QEMU ${JSON.stringify(this.#qemu.now)}`;
    const isOpen =
      wantsBandwidth !== undefined || wantsPaused !== undefined || (switched === 'REQUESTED' && state !== 'CANCELLING');
    return isOpen && !why.startsWith('an answer of QEMU') ? `${state}: a wish is not answered` : undefined;
  }

  get #wrongEnd(): string | undefined {
    if (this.#job.guestHeld && !this.#qemu.now.guestRuns) return 'left held';
    if (this.#drained) return 'drained while it ran';
    const isAsked = this.#qemu.now.presence === 'UP' && this.#qemu.now.hangs === 'NOT';
    if (isAsked && this.#limit !== undefined && this.#limit !== NO_EFFECT) return 'left slowed down';
    if (hasMark(this.#job) && isAsked && this.#limit === undefined)
      return 'its limit is gone, and that is not recorded';
    const isByHeader = handoverOf(this.#job.accepted) !== undefined;
    const isProved = this.#qemu.header.is === 'NEW' && this.#job.flushed !== undefined;
    return this.#job.state === 'COMPLETED' && isByHeader && !isProved ? 'COMPLETED without a proof' : undefined;
  }

  /** The event from outside that the job waits for; undefined if there is none, which is a dead end. */
  #waitsFor(): string | undefined {
    const { status, halt, guestMigrates, hangs, presence } = this.#qemu.now;
    const { state, intent, accepted, gate } = this.#job;
    const isForced = intent?.entry === 'cancel-requested' && intent.force;
    const isGivenUp = (isForced && intent.timeIsUp === undefined) || this.#job.giveUpRequested;
    if (presence === 'SILENT') return isGivenUp ? undefined : 'an answer of QEMU, or force';
    if (hangs !== 'NOT') return isYanked(this.#job) ? undefined : 'an answer of QEMU, or force';
    // It is paused before a blocking copy is cancelled, because QEMU may not survive that otherwise. Not with
    // pause_guest NEVER.
    const isBlocking = writeModeOf(this.#job) === 'BLOCKING';
    if (guestMigrates && (!isForced || isBlocking)) return 'the guest, which migrates';
    if (halt === 'NO_SPACE' && intent?.entry !== 'cancel-requested') return 'space';
    if (halt === 'USER' && intent === undefined) return 'Resume';
    if (state === 'READY' && status === 'ready' && accepted.options.onReady === 'HOLD') return 'Abort';
    if (state === 'READY' && status === 'ready' && gate !== undefined && !mayPivot(this.#job)) return 'the record';
    return undefined;
  }

  #append(entry: EntryBody): boolean {
    const next = after(this.#job, entry);
    if (next === undefined) return false;
    this.#job = next;
    return true;
  }

  /** As agent/request-end does it: a running pivot is cancelled by force alone. */
  #askForEnd(): void {
    const isOver = this.#job.concluded !== undefined;
    const end: EntryBody | undefined = this.#end === FORCE && isOver ? { entry: 'give-up-requested' } : this.#end;
    if (end?.entry === 'give-up-requested' && this.#append(end)) this.#end = undefined;
    if (end?.entry !== 'cancel-requested' || (!end.force && this.#job.state === 'PIVOTING')) return;
    if (this.#append(end)) this.#end = undefined;
  }

  /** As agent/look does it: the header is read back when QEMU cannot hold it back any more. */
  get #seen(): Seen {
    const { seen, header } = this.#qemu;
    const { accepted, state, flushed } = this.#job;
    if (seen.qemu === 'SILENT' || state === 'STARTING' || handoverOf(accepted) === undefined) return seen;
    if (seen.qemu === 'ENDED') return { ...seen, header };
    const runs = seen.job !== undefined && seen.job.status !== 'concluded';
    return runs || flushed !== 'HEADER' ? seen : { ...seen, header };
  }

  #look(): void {
    this.#askForEnd();
    const seen = this.#seen;
    if (seen.qemu !== 'SILENT') this.#heardMs = clockMs;
    if (seen.qemu === 'UP') this.#isUnderWay = GOES_ON.some((status) => status === this.#qemu.now.status);
    const hears = {
      silentMs: clockMs - this.#heardMs,
      isUnderWay: this.#isUnderWay,
      connectionBroken: this.#connectionBroken,
    };
    // The connection of a QEMU that nobody can ask cannot be broken.
    const urgent = this.#qemu.now.presence === 'SILENT' ? undefined : urgentMove(this.#job, this.#now(hears).asked);
    if (urgent !== undefined) return this.#break(urgent);
    this.#asked.note({ is: 'seen', seen });
    const { asked, refused } = this.#now(hears);
    this.#perform(nextMove(this.#job, seen, asked, refused));
  }

  #now(hears: Heard) {
    this.#asked.note({ is: 'written', job: this.#job, generation: 1 });
    return this.#asked.now(hears);
  }

  /** As agent/urgent-moves does it. */
  #break(urgent: UrgentMove): void {
    if (urgent === 'YANK') this.#asked.note({ is: 'asked', asking: 'yank' });
    else this.#asked.note({ is: 'copies-yanked' });
    if (!isOverNetwork(this.#job)) return;
    this.#qemu.execute(yankOf(this.#job.accepted.job));
    this.#connectionBroken ||= urgent === 'YANK_COPIES';
  }

  #wait(): void {
    // A later look misses nothing: the model sends no event in between.
    clockMs += Math.max(lookAgainMs(this.#asked.memory, this.#asked.moment) ?? 0, 100 * 4 ** this.#stillFor);
    this.#stillFor = this.#qemu.tick() ? 0 : this.#stillFor + 1;
  }

  /** As agent/stable-storage does it. */
  #flush({ what, images }: Extract<Move, { move: 'flush' }>): void {
    const isFlushed = images.every(({ node }) =>
      flushesOf(node).some(({ command, flushed }) => flushed.test(this.#qemu.execute(command) ?? '')),
    );
    this.#append(isFlushed ? { entry: 'flushed', what } : FLUSH_FAILED);
  }

  /** As agent/guest-throttle does it. */
  #slowDown(): void {
    this.#limit = this.#job.throttle?.limits.at(-1);
    if (this.#limit !== undefined) this.#append({ entry: 'throttled', limitBytesPerSecond: this.#limit });
  }

  #letGo({ because, isGoing }: Extract<Move, { move: 'lift-throttle' }>): void {
    // QEMU would drain the disk, and so wait for the copy.
    if (!isGoing && this.#job.concluded === undefined) this.#drained = true;
    this.#limit = isGoing ? NO_EFFECT : undefined;
    this.#append({ entry: 'throttle-lifted', because, ...(isGoing && { hasMark: true }) });
  }

  /** As agent/running-job does it. */
  #perform(move: Move): void {
    if (move.move === 'wait') return this.#wait();
    this.#stillFor = 0;
    switch (move.move) {
      case 'record':
        if (!this.#append(move.entry)) clockMs += 100;
        return;
      case 'command': {
        this.#asked.note({ is: 'asked', asking: move.asks });
        const refusal = this.#qemu.execute(move.command);
        if (refusal !== undefined) {
          this.refusals += 1;
          this.#asked.note({ is: 'refused', asking: move.asks, words: refusal });
          clockMs += 100;
          this.#qemu.tick();
          return;
        }
        this.#asked.note({ is: 'accepted', asking: move.asks });
        if (move.proves === undefined) return;
        this.#asked.note({ is: 'forgotten', asking: move.asks });
        this.#append(move.proves);
        return;
      }
      case 'hold-guest':
        if (!this.#job.guestHeld && !this.#append({ entry: 'guest-held', because: move.because })) return;
        this.#qemu.steer({ execute: 'stop' });
        return;
      case 'release-guest':
        this.#asked.note({ is: 'forgotten', asking: 'bitmaps' });
        this.#append({ entry: 'guest-released' });
        this.#qemu.steer({ execute: 'cont' });
        return;
      case 'throttle':
        this.#slowDown();
        return;
      case 'lift-throttle':
        this.#letGo(move);
        return;
      case 'carry-bitmaps':
        this.#asked.note({ is: 'asked', asking: 'bitmaps' });
        return;
      case 'flush':
        this.#flush(move);
        return;
      case 'open-gate':
        if (!this.#append({ entry: 'gate-opened', token: 'token' })) clockMs += 100;
        return;
      case 'undo-start':
        this.#append({ entry: 'refused', failure: failure('BUG', { id: '1' }) });
        return;
      case 'settle':
      case 'leave': {
        const job = concludedJob(this.#job);
        this.#append({ entry: 'ended', outcome: outcomeOf(job), ...ending(job) });
        return;
      }
    }
  }
}

const EVERY = [...cases()];
const COMBINATIONS =
  EVERY.map(({ job }) => [...worlds(job)].length).reduce((all, one) => all + one, 0) * Object.keys(ENDS).length;

it(`every job ends, or waits for a named event: ${COMBINATIONS} combinations`, { timeout: 600_000 }, () => {
  const wrong: string[] = [];
  let tried = 0;
  for (const one of EVERY) {
    for (const world of worlds(one.job)) {
      for (const [asks, end] of Object.entries(ENDS)) {
        tried += 1;
        const life = new Life(one, world, end);
        const why = life.wrong;
        if (why === undefined) continue;
        wrong.push(`${one.name}; ${JSON.stringify(world)}; its end wants ${asks}: ${why}, after ${life.looks} looks`);
      }
    }
  }
  expect(wrong.slice(0, 10), `${wrong.length} of ${tried}`).toEqual([]);
  expect(tried).toBe(COMBINATIONS);
});

// A table that has lost rows proves less.
it('the table is as large as it was', () => {
  expect(new Set(EVERY.map(({ job }) => job.state))).toEqual(
    new Set(['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'CANCELLING']),
  );
  expect(COMBINATIONS).toBeGreaterThanOrEqual(436_664);
});
