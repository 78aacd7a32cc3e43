/**
 * The hold of one VM's guest: the only sender of `stop` and `cont`. Jobs take and release it. It counts the jobs and is
 * written down before the first `stop`. When the last job releases it the guest is resumed, whatever became of the job
 * or of its journal.
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
import { guestStateOf, isLive } from '../../core/qemu/guest-state.ts';
import { Lane } from '../../lib/lane.ts';
import { NotSent, OutcomeUnknown, Refused } from '../../qmp/errors.ts';
import { type HoldRecord, WrittenHold } from '../journal/written-hold.ts';
import { isUnreachable } from '../qemu/failures.ts';
import { HeldJobs } from './held-jobs.ts';
import type { Holdable } from './holdable.ts';

export interface GuestHoldOptions {
  readonly machine: Holdable;
  readonly record: () => HoldRecord;
  readonly logger: Logger;
  /** The longest time that one job may hold it. A job releases it long before that: this is for one that cannot. */
  readonly limitMs?: number;
}

/** QEMU refuses `cont` at times, for example while it dumps the guest's memory. */
const TRY_AGAIN_MS = 1000;

export class GuestHold {
  readonly #options: GuestHoldOptions;
  readonly #lane = new Lane();
  readonly #limits = new Map<string, NodeJS.Timeout>();
  readonly #hold: WrittenHold;
  readonly #jobs: HeldJobs;
  #retry: NodeJS.Timeout | undefined;
  /** Our `stop` that QEMU may still have to do. */
  #stop: Stop | undefined;
  /** How often the guest was heard to be resumed. */
  #resumes = 0;
  #isClosed = false;

  constructor(options: GuestHoldOptions) {
    this.#options = options;
    this.#hold = new WrittenHold(options.record, options.logger);
    this.#jobs = new HeldJobs(options.machine.standstill, this.#hold, options.logger);
    options.machine.onEvent(({ event }) => this.#heard(event));
  }

  /** QEMU reports the effect of a command before its answer, but not whose command it was. */
  #heard(event: string): void {
    if (event === 'RESUME') this.#resumes += 1;
    if (this.#stop !== undefined) {
      this.#stop = heardBeside(this.#stop, event);
      if (this.#stop.is !== 'BEING_WRITTEN_DOWN') this.#hold.owe(owesBefore(this.#stop));
    } else if (event === 'RESUME') {
      // The guest was resumed, by us or another client. If it stops again, another client wanted that: a service after
      // us has to know it, too.
      this.#hold.owe(false);
    }
  }

  /**
   * Resolves when QEMU has answered `stop`: the guest has stopped. Rejects with NO_SPACE, ACCESS_DENIED, … if it cannot
   * be written down, and has not stopped the guest then; otherwise as `execute`.
   */
  async hold(job: string, because: string): Promise<void> {
    await this.#inTurn(async () => {
      const atLook = this.#resumes;
      const runState = await this.#look();
      // In a guest that is migrating in it would stop nothing, and keep it from running later.
      const sends = guestStateOf(runState) !== 'MIGRATING';
      const mayStop = sends && (isLive(runState) || atLook !== this.#resumes);
      this.#stop = { is: 'BEING_WRITTEN_DOWN', owed: this.#hold.now.owesCont, mayStop, stopped: false };
      // Our `stop` would stop a guest that is resumed meanwhile.
      const isOwed = () => this.#stop !== undefined && owesBefore(this.#stop);
      const write = async () => await this.#hold.add({ job, because }, isOwed);
      try {
        await write();
        this.#limit(job);
        if (sends) await this.#jobs.stand(async () => await this.#sendStop(isOwed, write));
      } finally {
        if (this.#stop?.is === 'BEING_WRITTEN_DOWN') this.#answered(false);
        // Counted from the time when the guest could be resumed again.
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
          // It may have waited long for its turn.
          isWritten = !isOwed() || this.#hold.isOwedOnDisk;
          if (isWritten) this.#stopIs('SENT');
          return isWritten;
        });
        this.#answered(true);
        return;
      } catch (error) {
        if (isWritten) {
          if (error instanceof Refused || error instanceof NotSent) this.#answered(false);
          // Its answer is lost, and maybe the event: it has stopped a running guest. Or it will, while QEMU is silent.
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

  /** QEMU answers in order: it has done all earlier commands. */
  async #look(): Promise<string> {
    const runState = await this.#options.machine.runState();
    this.#stop = undefined;
    return runState;
  }

  /**
   * Resolves when the guest runs, is held for another job, or is not ours to resume. Rejects while QEMU cannot be
   * asked; then it has to be called again. The hold itself repeats a command that QEMU refuses.
   */
  async release(job: string): Promise<void> {
    await this.#inTurn(async () => await this.#keep((other) => other !== job));
  }

  /** All other jobs let go: after a crash, jobs that nobody drives any more. */
  async keepOnly(isKept: (job: string) => boolean): Promise<void> {
    await this.#inTurn(async () => {
      const { holders } = this.#hold.now;
      const gone = holders.map(({ job }) => job).filter((job) => !isKept(job));
      if (gone.length > 0) this.#options.logger.warn({ jobs: gone }, 'A guest was held for jobs that have ended');
      for (const { job } of holders) if (isKept(job) && !this.#limits.has(job)) this.#limit(job);
      await this.#keep(isKept);
    });
  }

  async #keep(isKept: (job: string) => boolean): Promise<void> {
    await this.#jobs.goOn();
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

  /** The last hold has ended: the guest is resumed first. If that is not recorded, a restart finds the guest running. */
  async #settle(left: Hold): Promise<void> {
    clearTimeout(this.#retry);
    this.#hold.now = left;
    const { machine, logger } = this.#options;
    try {
      const runState = left.owesCont || this.#stop !== undefined ? await this.#look() : '';
      const isToGoOn = mustContinue(this.#hold.now, runState, this.#hold.isSame);
      // If another client resumed it before its turn, it is not ours to resume any more.
      if (isToGoOn) await machine.steer({ execute: 'cont' }, () => this.#hold.now.owesCont);
    } catch (error) {
      if (this.#hold.now.owesCont || this.#stop !== undefined) {
        this.#hold.become(this.#hold.now);
        // No event reports that a silent QEMU answers again.
        if (machine.identity !== undefined) this.#tryAgain();
        if (!(error instanceof Refused)) throw error;
        logger.warn({ why: error.desc }, 'A held guest cannot be resumed; trying again');
        return;
      }
    }
    this.#hold.become(FREE);
  }

  #tryAgain(): void {
    if (this.#isClosed) return;
    this.#retry = setTimeout(() => {
      this.#inTurn(async () => await this.#keep(() => true)).catch((error: unknown) =>
        this.#options.logger.debug({ err: error }, 'the guest cannot be resumed now'),
      );
    }, TRY_AGAIN_MS);
  }

  /** One thing at a time. Returns when its result is written down, too; other jobs need not wait for that. */
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
      logger.warn({ job }, 'A guest was held too long, and is resumed');
      this.release(job).catch((error: unknown) => {
        if (!isUnreachable(error)) logger.error({ err: error, job }, 'A guest cannot be resumed');
      });
    }, limitMs);
    this.#limits.set(job, timer);
  }

  get isFree(): boolean {
    return isFree(this.#hold.now);
  }

  /** Releases it for all jobs: nobody enforces the limit after the service has ended. */
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
