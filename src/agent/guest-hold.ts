/**
 * The hold of one VM's guest: the only sender of `stop` and `cont`. Jobs ask for it and let go of it; it is counted over
 * all of them, written down before the first `stop`, and the last one to let go has the guest continued, whatever
 * became of the job or of its journal.
 */
import type { Logger } from 'pino';
import {
  afterResume,
  afterStop,
  beforeStop,
  FREE,
  type Hold,
  isFree,
  mustContinue,
  withoutHolder,
} from '../core/guest-hold.ts';
import type { GuestCommand } from '../core/qemu/commands.ts';
import { guestStateOf, isLive } from '../core/qemu/guest-state.ts';
import { Lane } from '../lib/lane.ts';
import { NotSent, Refused } from '../qmp/errors.ts';
import { HOLD_LIMIT_MS } from './asked-so-far.ts';
import { isUnreachable } from './failures.ts';

/** What a hold needs of its VM. */
export interface Holdable {
  runState(): Promise<string>;
  steer(command: GuestCommand): Promise<void>;
  onEvent(listener: (event: { readonly event: string }) => void): void;
}

/** What is known of the hold of the process that answers now, also from before this service was started. */
export interface HoldRecord {
  hold: Hold;
  /** It is proved to be the process that was held. */
  readonly isSame: boolean;
  /** Resolves when this is on disk, whatever `hold` has become meanwhile; one that is free is on none. */
  save(hold: Hold): Promise<void>;
}

export interface GuestHoldOptions {
  readonly machine: Holdable;
  readonly record: () => HoldRecord;
  readonly logger: Logger;
  /** How long one job may hold it. A job lets go by itself long before: this is for one that cannot. */
  readonly limitMs?: number;
}

/** QEMU refuses `cont` for a while, as while it dumps the guest's memory. */
const TRY_AGAIN_MS = 1000;

export class GuestHold {
  readonly #options: GuestHoldOptions;
  readonly #lane = new Lane();
  readonly #limits = new Map<string, NodeJS.Timeout>();
  #retry: NodeJS.Timeout | undefined;
  /** A command of ours is under way: whether a guest that ran has been stopped since. */
  #under: { stopped: boolean } | undefined;
  /** How often the guest was heard to be continued. */
  #resumes = 0;
  #isClosed = false;

  constructor(options: GuestHoldOptions) {
    this.#options = options;
    options.machine.onEvent(({ event }) => this.#heard(event));
  }

  /** QEMU tells what a command caused before it answers. Whose command it was it does not tell. */
  #heard(event: string): void {
    const under = this.#under;
    if (event === 'STOP' && under !== undefined) under.stopped = true;
    if (event !== 'RESUME') return;
    if (under !== undefined) under.stopped = false;
    this.#resumes += 1;
    const record = this.#options.record();
    if (!record.hold.owesCont) return;
    // By us or not, it was continued. If it stands still again, somebody else wanted that: a service that comes after us
    // is to know it, too. While a command of ours is under way, it is written down with what that has done.
    record.hold = afterResume(record.hold);
    if (under === undefined) void this.#lane.run(async () => await this.#note(record));
  }

  /**
   * Resolves when QEMU has answered `stop`: the guest stands still. Rejects with NO_SPACE, ACCESS_DENIED, … where it
   * cannot be written down, and has not stopped the guest then; else as `execute`.
   */
  async hold(job: string, because: string): Promise<void> {
    await this.#lane.run(async () => {
      const { machine } = this.#options;
      const atLook = this.#resumes;
      const runState = await machine.runState();
      const record = this.#options.record();
      const before = record.hold;
      const atStart = this.#resumes;
      // In a guest that has not arrived it would stop nothing, and keep it from running when it has.
      const sends = guestStateOf(runState) !== 'MIGRATING';
      const mayStop = () => sends && (isLive(runState) || atLook !== this.#resumes);
      const next = () => beforeStop(before, { job, because, since: new Date().toISOString() }, mayStop());
      let written = before;
      let isSent = false;
      let stopped = false;
      try {
        written = await this.#write(record, next());
        // Heard to be continued while that was written: now `stop` would stop it.
        if (mayStop() && !written.owesCont) written = await this.#write(record, next());
        this.#limit(job);
        isSent = sends;
        if (isSent) ({ stopped } = await this.#steer('stop'));
      } catch (error) {
        // Its answer is lost, and with it maybe the event: it has stopped what ran.
        stopped = isSent && mayStop() && !(error instanceof Refused || error instanceof NotSent);
        throw error;
      } finally {
        record.hold = afterStop(written, { owed: before.owesCont && atStart === this.#resumes, stopped });
        if (record.hold.owesCont !== written.owesCont) await this.#note(record);
        // Counted from when the guest could be continued again.
        if (written !== before) this.#limit(job);
      }
    });
  }

  /**
   * Resolves when the guest goes on, is held for another job, or is not ours to continue. Rejects while QEMU cannot be
   * asked; then it is to be told again, by whomever. What QEMU refuses the hold itself tries again.
   */
  async release(job: string): Promise<void> {
    await this.#lane.run(async () => await this.#keep((other) => other !== job));
  }

  /** All others let go: after a crash, jobs that nobody looks after any more. */
  async keepOnly(isKept: (job: string) => boolean): Promise<void> {
    await this.#lane.run(async () => {
      const { holders } = this.#options.record().hold;
      const gone = holders.map(({ job }) => job).filter((job) => !isKept(job));
      if (gone.length > 0) this.#options.logger.warn({ jobs: gone }, 'a guest is held for jobs that are over');
      for (const { job } of holders) if (isKept(job) && !this.#limits.has(job)) this.#limit(job);
      await this.#keep(isKept);
    });
  }

  async #keep(isKept: (job: string) => boolean): Promise<void> {
    const record = this.#options.record();
    const { holders } = record.hold;
    for (const { job } of holders) {
      if (isKept(job)) continue;
      clearTimeout(this.#limits.get(job));
      this.#limits.delete(job);
      record.hold = withoutHolder(record.hold, job);
    }
    if (record.hold.holders.length === 0) await this.#settle(record);
    else if (record.hold.holders.length < holders.length) await this.#note(record);
  }

  /** The last hold has gone: the guest goes on first. Not written down, it is found once more, and seen to run. */
  async #settle(record: HoldRecord): Promise<void> {
    clearTimeout(this.#retry);
    const { machine, logger } = this.#options;
    try {
      const runState = record.hold.owesCont ? await machine.runState() : '';
      if (mustContinue(record.hold, runState, record.isSame)) await this.#steer('cont');
    } catch (error) {
      await this.#note(record);
      if (!(error instanceof Refused)) throw error;
      logger.warn({ why: error.desc }, 'the guest that was held cannot be continued; trying again');
      this.#tryAgain();
      return;
    }
    record.hold = FREE;
    await this.#note(record);
  }

  #tryAgain(): void {
    if (this.#isClosed) return;
    this.#retry = setTimeout(() => {
      this.#lane
        .run(async () => await this.#keep(() => true))
        // Whoever finds it when it can be asked again has it settled.
        .catch((error: unknown) => this.#options.logger.info({ err: error }, 'the guest cannot be continued now'));
    }, TRY_AGAIN_MS);
  }

  async #steer(command: 'stop' | 'cont'): Promise<{ readonly stopped: boolean }> {
    const under = { stopped: false };
    this.#under = under;
    try {
      await this.#options.machine.steer({ execute: command });
      return under;
    } finally {
      this.#under = undefined;
    }
  }

  async #write(record: HoldRecord, next: Hold): Promise<Hold> {
    await record.save(next);
    record.hold = next;
    return next;
  }

  /** What has happened already is not undone by a disk that is full. */
  async #note(record: HoldRecord): Promise<void> {
    try {
      await record.save(record.hold);
    } catch (error) {
      this.#options.logger.error({ err: error }, 'what became of the hold of a guest cannot be written down');
    }
  }

  #limit(job: string): void {
    clearTimeout(this.#limits.get(job));
    const { logger, limitMs = 2 * HOLD_LIMIT_MS } = this.#options;
    const timer = setTimeout(() => {
      logger.warn({ job }, 'the guest was held for too long, and goes on');
      this.release(job).catch((error: unknown) => {
        if (!isUnreachable(error)) logger.error({ err: error, job }, 'the guest cannot be continued');
      });
    }, limitMs);
    this.#limits.set(job, timer);
  }

  get isFree(): boolean {
    return isFree(this.#options.record().hold);
  }

  /** Lets go for all jobs: whoever leaves keeps no limit any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    try {
      await this.keepOnly(() => false);
    } finally {
      clearTimeout(this.#retry);
      for (const timer of this.#limits.values()) clearTimeout(timer);
    }
  }
}
