/**
 * The hold of one VM's guest: the only sender of `stop` and `cont`. Jobs ask for it and let go of it; it is counted over
 * all of them, written down before the first `stop`, and the last one to let go has the guest continued, whatever
 * became of the job or of its journal.
 */
import type { Logger } from 'pino';
import {
  FREE,
  type Hold,
  heardBeside,
  isFree,
  mustContinue,
  owesAfter,
  owesBefore,
  type Stop,
  withoutHolder,
} from '../../core/job/guest-hold.ts';
import { HOLD_LIMIT_MS } from '../../core/moves/circumstances.ts';
import type { GuestCommand } from '../../core/qemu/commands.ts';
import { guestStateOf, isLive } from '../../core/qemu/guest-state.ts';
import { Lane } from '../../lib/lane.ts';
import { NotSent, OutcomeUnknown, Refused } from '../../qmp/errors.ts';
import { type HoldRecord, WrittenHold } from '../journal/written-hold.ts';
import { isUnreachable } from '../qemu/failures.ts';

/** What a hold needs of its VM. */
export interface Holdable {
  /** Undefined while QEMU cannot be asked; the hold is told when it can. */
  readonly identity: unknown;
  runState(): Promise<string>;
  /** `atTurn` is asked when the command is about to be sent, for which it may have waited: is it wanted still? */
  steer(command: GuestCommand, atTurn: () => boolean): Promise<void>;
  onEvent(listener: (event: { readonly event: string }) => void): void;
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
  readonly #hold: WrittenHold;
  #retry: NodeJS.Timeout | undefined;
  /** Of ours, which QEMU may still have to do. */
  #stop: Stop | undefined;
  /** How often the guest was heard to be continued. */
  #resumes = 0;
  #isClosed = false;

  constructor(options: GuestHoldOptions) {
    this.#options = options;
    this.#hold = new WrittenHold(options.record, options.logger);
    options.machine.onEvent(({ event }) => this.#heard(event));
  }

  /** QEMU tells what a command caused before it answers. Whose command it was it does not tell. */
  #heard(event: string): void {
    if (event === 'RESUME') this.#resumes += 1;
    if (this.#stop !== undefined) {
      this.#stop = heardBeside(this.#stop, event);
      if (this.#stop.is !== 'BEING_WRITTEN_DOWN') this.#hold.owe(owesBefore(this.#stop));
    } else if (event === 'RESUME') {
      // By us or not, it was continued. If it stands still again, somebody else wanted that: who comes after us is to
      // know it, too.
      this.#hold.owe(false);
    }
  }

  /**
   * Resolves when QEMU has answered `stop`: the guest stands still. Rejects with NO_SPACE, ACCESS_DENIED, … where it
   * cannot be written down, and has not stopped the guest then; else as `execute`.
   */
  async hold(job: string, because: string): Promise<void> {
    await this.#inTurn(async () => {
      const atLook = this.#resumes;
      const runState = await this.#look();
      // In a guest that has not arrived it would stop nothing, and keep it from running when it has.
      const sends = guestStateOf(runState) !== 'MIGRATING';
      const mayStop = sends && (isLive(runState) || atLook !== this.#resumes);
      this.#stop = { is: 'BEING_WRITTEN_DOWN', owed: this.#hold.now.owesCont, mayStop, stopped: false };
      // A guest that is continued meanwhile our `stop` would stop.
      const isOwed = () => this.#stop !== undefined && owesBefore(this.#stop);
      const write = async () => await this.#hold.add({ job, because }, isOwed);
      try {
        await write();
        this.#limit(job);
        if (sends) await this.#sendStop(isOwed, write);
      } finally {
        if (this.#stop?.is === 'BEING_WRITTEN_DOWN') this.#answered(false);
        // Counted from when the guest could be continued again.
        if (this.#hold.now.holders.some((one) => one.job === job)) this.#limit(job);
      }
    });
  }

  async #sendStop(isOwed: () => boolean, write: () => Promise<void>): Promise<void> {
    for (;;) {
      this.#stopIs('WAITING');
      let isWritten = true;
      try {
        await this.#options.machine.steer({ execute: 'stop' }, () => {
          // It may have waited for its turn for long.
          isWritten = !isOwed() || this.#hold.isOwedOnDisk;
          if (isWritten) this.#stopIs('SENT');
          return isWritten;
        });
        this.#answered(true);
        return;
      } catch (error) {
        if (isWritten) {
          if (error instanceof Refused || error instanceof NotSent) this.#answered(false);
          // Its answer is lost, and with it maybe the event: it has stopped what ran. Or, while QEMU is silent, it will.
          else if (!(error instanceof OutcomeUnknown && error.why === 'timeout')) this.#stop = undefined;
          throw error;
        }
      }
      this.#stopIs('BEING_WRITTEN_DOWN');
      await write();
    }
  }

  #stopIs(is: Stop['is']): void {
    if (this.#stop === undefined) return;
    this.#stop = { ...this.#stop, is };
    if (is !== 'BEING_WRITTEN_DOWN') this.#hold.owe(owesBefore(this.#stop));
  }

  #answered(isDone: boolean): void {
    if (this.#stop === undefined) return;
    this.#hold.owe(isDone ? owesAfter(this.#stop) : this.#stop.owed);
    this.#stop = undefined;
  }

  /** QEMU answers one after the other: what it was told before this it has done. */
  async #look(): Promise<string> {
    const runState = await this.#options.machine.runState();
    this.#stop = undefined;
    return runState;
  }

  /**
   * Resolves when the guest goes on, is held for another job, or is not ours to continue. Rejects while QEMU cannot be
   * asked; then it is to be told again, by whomever. What QEMU refuses the hold itself tries again.
   */
  async release(job: string): Promise<void> {
    await this.#inTurn(async () => await this.#keep((other) => other !== job));
  }

  /** All others let go: after a crash, jobs that nobody looks after any more. */
  async keepOnly(isKept: (job: string) => boolean): Promise<void> {
    await this.#inTurn(async () => {
      const { holders } = this.#hold.now;
      const gone = holders.map(({ job }) => job).filter((job) => !isKept(job));
      if (gone.length > 0) this.#options.logger.warn({ jobs: gone }, 'a guest is held for jobs that are over');
      for (const { job } of holders) if (isKept(job) && !this.#limits.has(job)) this.#limit(job);
      await this.#keep(isKept);
    });
  }

  async #keep(isKept: (job: string) => boolean): Promise<void> {
    const before = this.#hold.now;
    const gone = before.holders.map(({ job }) => job).filter((job) => !isKept(job));
    for (const job of gone) {
      clearTimeout(this.#limits.get(job));
      this.#limits.delete(job);
    }
    const left = gone.reduce(withoutHolder, before);
    if (left.holders.length === 0) await this.#settle(left);
    else if (gone.length > 0) this.#hold.become(left);
  }

  /** The last hold has gone: the guest goes on first. Not written down, it is found once more, and seen to run. */
  async #settle(left: Hold): Promise<void> {
    clearTimeout(this.#retry);
    this.#hold.now = left;
    const { machine, logger } = this.#options;
    try {
      const runState = left.owesCont || this.#stop !== undefined ? await this.#look() : '';
      const isToGoOn = mustContinue(this.#hold.now, runState, this.#hold.isSame);
      // Continued by somebody else before its turn, it is not ours to continue any more.
      if (isToGoOn) await machine.steer({ execute: 'cont' }, () => this.#hold.now.owesCont);
    } catch (error) {
      if (this.#hold.now.owesCont || this.#stop !== undefined) {
        this.#hold.become(this.#hold.now);
        // Of a QEMU that is silent nobody tells when it answers again.
        if (machine.identity !== undefined) this.#tryAgain();
        if (!(error instanceof Refused)) throw error;
        logger.warn({ why: error.desc }, 'the guest that was held cannot be continued; trying again');
        return;
      }
    }
    this.#hold.become(FREE);
  }

  #tryAgain(): void {
    if (this.#isClosed) return;
    this.#retry = setTimeout(() => {
      this.#inTurn(async () => await this.#keep(() => true)).catch((error: unknown) =>
        this.#options.logger.debug({ err: error }, 'the guest cannot be continued now'),
      );
    }, TRY_AGAIN_MS);
  }

  /** One thing at a time. Returns when what has come of it is written down, too; others need not wait for that. */
  async #inTurn(work: () => Promise<void>): Promise<void> {
    try {
      await this.#lane.run(work);
    } finally {
      await this.#hold.done();
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
    return isFree(this.#hold.now);
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
