/** What QEMU was asked about a job, and for how long things have been as they are: the memory between two looks. */
import type { Job } from '../core/job.ts';
import { isForced, isOverNetwork } from '../core/job-facts.ts';
import type { Asked, Asking, Seen } from '../core/next-move.ts';
import { type Heard, NOTHING_HEARD } from './heard.ts';
import type { HostClock } from './host-clock.ts';
import { Pace } from './pace.ts';
import { timeLeftMs } from './time-left.ts';

/** A start that gets going does so in milliseconds; a guest that is busy for ever is paused for its pivot. */
const OVERDUE_MS: Partial<Record<Job['state'], number>> = { STARTING: 1000, PIVOTING: 30_000 };
/** A guest's own time-out for its disk is 30 seconds and more. */
export const HOLD_LIMIT_MS = 5000;
/** A hold ends by itself at its limit, and QEMU answers at once: after so long it waits for storage that hangs. */
const HANGS_AFTER_MS = HOLD_LIMIT_MS + 1000;
/** What `stop` may have to wait for, so that there is time for the pivot. */
const UNDER_WAY_LIMIT_MS = HOLD_LIMIT_MS / 2;
/**
 * QEMU's NBD client can miss a cancel that comes while it finds out that its connection is broken, and then waits for a
 * server that hangs (seen with QEMU 7.2): it is told again.
 */
const FORCE_AGAIN_MS = 2000;
/** A QEMU that hangs on its storage may come back in less; whoever asks for force does not want to wait for ever. */
const GIVE_UP_MS = 30_000;
/** QEMU drains its disks in less. */
const PAUSE_LASTS_MS = 200;
/** What QEMU refuses for longer it has not refused because of a race. */
const REFUSES_MS = 2000;
/** Then it is asked for again so much later: QEMU may refuse it while it drains its disks for a server that hangs. */
const REFUSED_AGAIN_MS = 5000;
/** When QEMU tells of nothing: while a job gets going, while its end waits, and until it shows that a guest has stayed. */
const LOOK_AGAIN_MS = {
  STARTING: 20,
  PIVOTING: 500,
  CANCELLING: 500,
  held: 10,
  migrates: 500,
  pace: 250,
  network: 2000,
};
/** A host that may not move the guest asks again after so long. */
const FENCED_MS = 1000;
/** Between two holds the guest gets so many times as long for its work as it was held. */
const REST_PER_HOLD = 4;

export class AskedSoFar {
  /** As it was right before the guest was to be moved. */
  destinationMoved = false;
  readonly #clock: HostClock;
  readonly #asked = new Set<Asking>();
  /** Since when QEMU refuses it, when it did so last, and with what words. */
  readonly #refused = new Map<Asking, { readonly since: number; readonly last: number; readonly words: string }>();
  /** Over which connection it was asked: what a lost one swallowed is asked again. */
  #generation = 0;
  /** For which request: a cancel by force is not the cancel that was asked before. */
  #intent: Job['intent'];
  #giveUpRequested = false;
  #wantsPaused: Job['wantsPaused'];
  #wantsBandwidth: Job['wantsBandwidth'];
  #state: Job['state'] = 'STARTING';
  #since = performance.now();
  #held = false;
  /** Since when the guest is held, or is not held any more; long ago when it never was. */
  #heldSince = -Infinity;
  #restMs = 0;
  #fencedUntil = -Infinity;
  /** When an end by force was asked for, over the network. */
  #forcedAt = Infinity;
  /** Since when the job is seen to be paused, and no error explains it. */
  #pausedSince: number | undefined;
  #guestMigrates = false;
  /** When QEMU last said something. */
  #heardAt = performance.now();
  /** When the present end or pivot was asked for, or the job given up, as far as this service knows. */
  #intentAt = performance.now();
  /** Since the state is what it is: what was copied before tells nothing of the destination now. */
  #pace = new Pace();
  /** When QEMU was asked to end the copy. */
  #endAskedAt = Infinity;
  #copiesYankedAt = -Infinity;

  constructor(clock: HostClock) {
    this.#clock = clock;
  }

  add(asking: Asking): void {
    this.#asked.add(asking);
    if (asking === 'forceEnd') this.#forcedAt = performance.now();
    if (asking === 'complete' || asking === 'end') this.#endAskedAt = performance.now();
  }

  /** QEMU has said yes, or it has never come to QEMU: the same may be asked for anew. */
  forget(...all: readonly Asking[]): void {
    for (const asking of all) {
      this.#asked.delete(asking);
      this.#refused.delete(asking);
    }
  }

  /** QEMU has said yes, and does it. */
  accept(asking: Asking): void {
    this.#refused.delete(asking);
  }

  /** It is as if never asked, but for how long QEMU has been refusing it. Returns whether these words are new. */
  refuse(asking: Asking, words: string): boolean {
    const last = performance.now();
    const before = this.#refused.get(asking);
    this.#asked.delete(asking);
    this.#refused.set(asking, { since: before?.since ?? last, last, words });
    return before?.words !== words;
  }

  #isAsked(asking: Asking): boolean {
    if (this.#asked.has(asking)) return true;
    const { since, last } = this.#refused.get(asking) ?? { since: 0, last: 0 };
    return last - since > REFUSES_MS && performance.now() - last < REFUSED_AGAIN_MS;
  }

  /** Who has the domain is another host, or not known: the guest is not to be moved now. */
  fence(): void {
    this.#fencedUntil = performance.now() + FENCED_MS;
  }

  /** So were the connections of all copies. */
  yankedCopies(): void {
    this.#copiesYankedAt = performance.now();
  }

  /** When it may be, at the earliest, that the guest waits for storage that hangs. */
  mayHangInMs({ guestHeld }: Job, silentMs: number): number {
    const nowMs = performance.now();
    const waitsMs = Math.max(silentMs, guestHeld && this.#held ? nowMs - this.#heldSince : 0);
    return Math.max(1, HANGS_AFTER_MS - waitsMs, this.#copiesYankedAt + FORCE_AGAIN_MS - nowMs);
  }

  /** What QEMU says now. */
  see(seen: Seen): void {
    if (seen.qemu !== 'SILENT') this.#heardAt = performance.now();
    if (seen.qemu === 'UP' && seen.job !== undefined) this.#pace.see(seen.job);
    const isPaused = seen.qemu === 'UP' && seen.job?.paused === true && seen.job.ioStatus === 'ok';
    this.#guestMigrates = seen.qemu === 'UP' && seen.guestMigrates;
    this.#pausedSince = isPaused ? (this.#pausedSince ?? performance.now()) : undefined;
  }

  /** When to look again at the latest. Undefined: an event, a request or the connection will tell. */
  lookAgainMs(job: Job): number | undefined {
    const { state, guestHeld } = job;
    if (guestHeld) return LOOK_AGAIN_MS.held;
    if (this.#pausedSince !== undefined && !this.#pauseLasts) return PAUSE_LASTS_MS;
    if (this.#guestMigrates) return LOOK_AGAIN_MS.migrates;
    if (state === 'PIVOTING' && this.#underWayMs(job) === undefined) return LOOK_AGAIN_MS.pace;
    if (state === 'STARTING' || state === 'PIVOTING' || state === 'CANCELLING') return LOOK_AGAIN_MS[state];
    const leftMs = timeLeftMs(job, this.#clock);
    const inMs = Math.min(
      leftMs > 0 ? leftMs : Infinity,
      this.#refused.size > 0 ? REFUSED_AGAIN_MS : Infinity,
      // No event tells of a server that hangs, and another client's command may wait for it, and the guest with that.
      isOverNetwork(job) ? LOOK_AGAIN_MS.network : Infinity,
    );
    return inMs === Infinity ? undefined : inMs;
  }

  #underWayMs({ accepted }: Job): number | undefined {
    return this.#pace.underWayMs(accepted.options.bufferBytes);
  }

  get #pauseLasts(): boolean {
    return this.#pausedSince !== undefined && performance.now() - this.#pausedSince >= PAUSE_LASTS_MS;
  }

  now(job: Job, generation: number, heard = NOTHING_HEARD): Asked {
    const another = generation !== this.#generation || job.intent !== this.#intent;
    if (another) {
      this.#asked.clear();
      this.#refused.clear();
    }
    if (isOverNetwork(job) && performance.now() - this.#forcedAt > FORCE_AGAIN_MS) {
      this.#forcedAt = Infinity;
      this.forget('yank', 'forceEnd');
    }
    // A wish that is given up changes nothing of what QEMU refuses.
    if (job.wantsPaused !== undefined && job.wantsPaused !== this.#wantsPaused) this.forget('pause', 'resume');
    if (job.wantsBandwidth !== undefined && job.wantsBandwidth !== this.#wantsBandwidth) this.forget('speed');
    const isGivenUp = job.giveUpRequested !== this.#giveUpRequested;
    if (isGivenUp) this.forget('yank');
    if (isGivenUp || job.intent !== this.#intent) this.#intentAt = performance.now();
    this.#giveUpRequested = job.giveUpRequested;
    this.#generation = generation;
    this.#intent = job.intent;
    this.#wantsPaused = job.wantsPaused;
    this.#wantsBandwidth = job.wantsBandwidth;
    const nowMs = performance.now();
    if (this.#state !== job.state) {
      this.#state = job.state;
      this.#pace = new Pace();
      this.#since = nowMs;
    }
    if (this.#held !== job.guestHeld) {
      if (this.#held) this.#restMs = REST_PER_HOLD * (nowMs - this.#heldSince);
      this.#held = job.guestHeld;
      this.#heldSince = nowMs;
    }
    const heldMs = nowMs - this.#heldSince;
    const refused = [...this.#refused].filter(([, { since }]) => nowMs - since > REFUSES_MS);
    const unheardMs = nowMs - Math.max(this.#heardAt, this.#intentAt);
    return {
      refused: Object.fromEntries(refused.map(([asking, { words }]) => [asking, words])),
      complete: this.#isAsked('complete'),
      end: this.#isAsked('end'),
      forceEnd: this.#isAsked('forceEnd'),
      pause: this.#isAsked('pause'),
      resume: this.#isAsked('resume'),
      speed: this.#isAsked('speed'),
      bitmaps: this.#isAsked('bitmaps'),
      yank: this.#isAsked('yank'),
      finalize: this.#isAsked('finalize'),
      timeIsUp: timeLeftMs(job, this.#clock) <= 0,
      pauseLasts: this.#pauseLasts,
      overdue: nowMs - this.#since > (OVERDUE_MS[job.state] ?? Infinity),
      heldTooLong: job.guestHeld && heldMs > HOLD_LIMIT_MS,
      givenUp: (isForced(job) || job.giveUpRequested) && unheardMs > GIVE_UP_MS,
      waitsFarTooLong: this.#waitsFarTooLong(job, nowMs, heard),
      endsTooLong: this.#hangsAtItsEnd(nowMs),
      stopsSoon: (this.#underWayMs(job) ?? Infinity) <= UNDER_WAY_LIMIT_MS,
      fenced: nowMs < this.#fencedUntil,
      connectionBroken: heard.connectionBroken,
      destinationMoved: this.destinationMoved,
      restsFromHold: !job.guestHeld && heldMs < this.#restMs,
    };
  }

  #waitsFarTooLong({ guestHeld, state, concluded }: Job, nowMs: number, { silentMs, isUnderWay }: Heard): boolean {
    const guestStays = !this.#asked.has('complete') && (isUnderWay || state === 'STARTING');
    if (!guestStays && concluded === undefined) return false;
    const waitsMs = Math.max(silentMs, guestHeld ? nowMs - this.#heldSince : 0);
    return waitsMs > HANGS_AFTER_MS && nowMs - this.#copiesYankedAt > FORCE_AGAIN_MS;
  }

  #hangsAtItsEnd(nowMs: number): boolean {
    const isAsked = this.#asked.has('complete') || this.#asked.has('end');
    return isAsked && Math.min(nowMs - this.#endAskedAt, this.#pace.stillMs) > HANGS_AFTER_MS;
  }
}
