/**
 * One job that has not ended: looks at QEMU, asks core/next-move what to do, does it, and looks again whenever
 * something may have changed. QEMU's events only wake it; it asks for the facts.
 *
 *        ┌──────────────── wake: event, connection, request, timer ◄───────────────┐
 *        ▼                                                                         │
 *      look at QEMU ──► next-move(journal, QEMU) ──► write it down ──► do it ──────┘
 */
import type { Logger } from 'pino';
import { failure } from '../../core/errors.ts';
import type { Job } from '../../core/job/job.ts';
import { withUnwritten } from '../../core/job/unwritten.ts';
import { HOLD_LIMIT_MS, isNews, lookAgainMs } from '../../core/moves/circumstances.ts';
import { type Asking, isForPivot, type Move } from '../../core/moves/moves.ts';
import type { QemuBlockJob } from '../../core/qemu/replies.ts';
import { LinkedAbort, Wake } from '../../lib/wake.ts';
import { NotSent, Refused } from '../../qmp/errors.ts';
import { StableStorage } from '../files/stable-storage.ts';
import type { JobLog } from '../journal/job-log.ts';
import { isUnreachable } from '../qemu/failures.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { AskedSoFar } from './asked-so-far.ts';
import { moveThrottle } from './guest-throttle.ts';
import { type HoldOf, JobHold } from './job-hold.ts';
import { JobSteps, type JobStepsOptions } from './job-steps.ts';
import { passes } from './last-checks.ts';
import { type Looker, look, type Presence, presenceSeen, type Up } from './look.ts';
import { openGate } from './open-gate.ts';
import { UrgentMoves, type UrgentMovesOptions } from './urgent-moves.ts';

export interface RunningJobOptions
  extends Omit<JobStepsOptions, 'hold' | 'leaving'>,
    Pick<UrgentMovesOptions, 'copiesBeside'> {
  readonly holdOf: HoldOf;
  /** The VM of this job now; undefined if there is none. */
  readonly machine: () => VirtualMachine | undefined;
  /** Notified when a VM appears, which may be the one of this job. */
  readonly arrivals: Wake;
  /** Called with QEMU's reports, so that progress is never older than the state. */
  readonly onBlockJobs: (blockJobs: readonly QemuBlockJob[]) => void;
  /** Called at each decision, with the reason why a requested end is not done; '' if there is none. */
  readonly onWaits: (waits: string) => void;
}

type ForQemu = Exclude<Move, { move: 'wait' | 'record' | 'open-gate' | 'undo-start' | 'settle' | 'leave' }>;

/** QEMU cannot be asked, or an unexpected error happened. */
const TRY_AGAIN_MS = 1000;

export class RunningJob {
  readonly #log: JobLog;
  readonly #hold: JobHold;
  readonly #steps: JobSteps;
  readonly #options: RunningJobOptions;
  readonly #logger: Logger;
  readonly #stop = new AbortController();
  readonly #asked: AskedSoFar;
  readonly #looker: Looker;
  readonly #urgent: UrgentMoves;
  readonly #storage = new StableStorage();
  #leaveBy = Infinity;

  constructor(options: RunningJobOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#asked = new AskedSoFar(options.log.job, options.log.clock, options.onWaits);
    const { job, domain, disk, process } = this.#job.accepted;
    this.#looker = { ...options, processes: process === undefined ? [] : [process], storage: this.#storage };
    this.#logger = options.logger.child({ job, domain, disk });
    this.#hold = new JobHold(options.log, options.holdOf);
    this.#steps = new JobSteps({ ...options, hold: this.#hold, leaving: this.#stop.signal, logger: this.#logger });
    this.#urgent = new UrgentMoves({ ...options, asked: this.#asked, logger: this.#logger });
  }

  get #job(): Job {
    return this.#log.job;
  }

  /** Runs the plan of a new job. Its progress is written down; `drive` does the rest. */
  async start(): Promise<void> {
    const machine = this.#options.machine();
    // The VM existed when the start was prepared. Nothing was done in it yet.
    const hasGone = failure('DOMAIN_NOT_FOUND', { domain: this.#job.accepted.domain });
    try {
      if (machine === undefined) await this.#log.append({ entry: 'refused', failure: hasGone });
      else await this.#urgent.beside(machine, async () => await this.#steps.begin({ is: 'up', machine }));
    } catch (error) {
      // The journal cannot be written: nothing more is done, and `drive` undoes the steps.
      this.#logger.error({ err: error }, 'The start of the job failed');
    }
  }

  /** Returns when the job has ended, or when `close` is called; the job then continues in QEMU. */
  async drive(): Promise<void> {
    await using _open = this.#storage;
    await using _madeIn = this.#steps.madeIn;
    while (!this.#log.ended && !this.#mayLeave) {
      const machine = this.#options.machine();
      const wake = machine?.wake ?? this.#options.arrivals;
      const before = { log: this.#log.changed.now, wake, machine: wake.now };
      try {
        const seen = await this.#urgent.beside(machine, async () => await look(this.#job, machine, this.#looker));
        // The end is judged by an answer of QEMU from after the request for it.
        if (this.#log.changed.now !== before.log) continue;
        this.#asked.note({ is: 'seen', seen });
        const qemu = presenceSeen(seen, machine);
        if (qemu.is === 'up') await this.#hold.letGo(qemu.machine);
        this.#asked.note({ is: 'written', job: this.#job, generation: machine?.identity?.generation ?? 0 });
        const decide = this.#asked.decider(seen, this.#log.connectionBroken);
        const move = decide(this.#job);
        if (move.move === 'wait') await this.#wait(seen.qemu !== 'UP', before);
        else
          await this.#urgent.beside(qemu.is === 'up' ? qemu.machine : undefined, async () => {
            const unwritten = move.move === 'record' && move.entry.entry === 'concluded' ? [move.entry] : [];
            const next = unwritten.length === 0 ? move : decide(withUnwritten(this.#job, unwritten));
            // QEMU does not change a job that it has concluded: the clean-up needs no other look.
            if (next.move === 'settle') await this.#steps.settle(qemu, { leavesQemu: false, unwritten });
            else await this.#perform(move, qemu);
          });
      } catch (error) {
        if (isUnreachable(error)) await this.#wait(true, before);
        else {
          this.#logger.error({ err: error }, 'A move of the job failed; trying again');
          await this.#pause(TRY_AGAIN_MS);
        }
      }
    }
  }

  /** Stops driving the job. It continues in QEMU, and the next reader of the journal takes it up. */
  close(): void {
    this.#leaveBy = performance.now() + 2 * HOLD_LIMIT_MS;
    this.#stop.abort();
  }

  /** A guest that is paused for its pivot is resumed, unless QEMU refuses that. */
  get #mayLeave(): boolean {
    return this.#stop.signal.aborted && (!this.#job.guestHeld || performance.now() > this.#leaveBy);
  }

  async #wait(
    isSilent: boolean,
    before: { readonly log: number; readonly wake: Wake; readonly machine: number },
  ): Promise<void> {
    using stopped = new LinkedAbort(this.#job.guestHeld ? undefined : this.#stop.signal);
    const timeoutMs = isSilent ? TRY_AGAIN_MS : lookAgainMs(this.#asked.memory, this.#asked.moment);
    const options = { signal: stopped.signal, ...(timeoutMs !== undefined && { timeoutMs }) };
    await Promise.race([this.#log.changed.after(before.log, options), before.wake.after(before.machine, options)]);
  }

  async #perform(move: Exclude<Move, { move: 'wait' }>, qemu: Presence): Promise<void> {
    switch (move.move) {
      case 'record':
        this.#logger.info({ entry: move.entry.entry }, 'The job has a new entry');
        // A move that a request has made impossible meanwhile is decided again at the next look.
        await this.#log.offer(move.entry, { otherwise: async () => await this.#pause() });
        return;
      case 'open-gate':
        return await openGate(this.#log);
      case 'undo-start':
        return await this.#steps.takeBack(qemu);
      case 'settle':
      case 'leave':
        return await this.#steps.settle(qemu, { leavesQemu: move.move === 'leave' });
      default:
        if (qemu.is === 'up') await this.#ask(move, qemu);
    }
  }

  async #ask(move: ForQemu, qemu: Up): Promise<void> {
    const { machine } = qemu;
    if (this.#job.state === 'PIVOTING' && isForPivot(move) && !(await this.#mayPivot(machine))) return;
    switch (move.move) {
      case 'command':
        return await this.#command(move, machine);
      case 'hold-guest':
        return void (await this.#refusalOf(async () => await this.#hold.hold(move.because, machine)));
      case 'release-guest':
        // They may have changed by the next time.
        this.#asked.note({ is: 'forgotten', asking: 'bitmaps' });
        await this.#hold.release(machine);
        return;
      case 'carry-bitmaps':
        await this.#steps.carryBitmaps(qemu);
        this.#asked.note({ is: 'asked', asking: 'bitmaps' });
        return;
      case 'throttle':
      case 'lift-throttle':
        await this.#refusalOf(async () => await moveThrottle(move, this.#log, machine));
        return;
      case 'flush':
        await this.#log.append(await this.#storage.carryOut(move, this.#job, machine));
    }
  }

  async #mayPivot(machine: VirtualMachine): Promise<boolean> {
    this.#options.expectHolder();
    const mayPivot = async () => await this.#options.mayPivot(this.#stop.signal);
    const found = await passes({ log: this.#log, asked: this.#asked, logger: this.#logger, mayPivot }, machine);
    if (found === 'FENCED') await this.#pause();
    return found === 'YES';
  }

  async #command(move: Extract<Move, { move: 'command' }>, machine: VirtualMachine): Promise<void> {
    this.#asked.note({ is: 'asked', asking: move.asks });
    let refusal: Refused | undefined;
    try {
      refusal = await this.#refusalOf(async () => void (await machine.execute(move.command)), move.asks);
    } catch (error) {
      if (error instanceof NotSent) this.#asked.note({ is: 'forgotten', asking: move.asks });
      throw error;
    }
    if (refusal !== undefined) {
      this.#asked.note({ is: 'refused', asking: move.asks, words: refusal.desc });
      return;
    }
    this.#asked.note({ is: 'accepted', asking: move.asks });
    if (move.proves !== undefined) {
      // Before it is written down, which may fail: then it is asked once more.
      this.#asked.note({ is: 'forgotten', asking: move.asks });
      await this.#log.append(move.proves);
    }
  }

  /** QEMU's refusal: its state changed before the command, and the next look shows it. */
  async #refusalOf(tell: () => Promise<void>, asks?: Asking): Promise<Refused | undefined> {
    try {
      await tell();
      return undefined;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      await this.#pause();
      const { command, desc } = error;
      const level = asks === undefined || isNews(this.#asked.memory, asks, desc) ? 'info' : 'debug';
      this.#logger[level]({ command, why: desc }, 'QEMU refused a command; looking again');
      return error;
    }
  }

  /** A command that does not fit now may fit later. */
  async #pause(timeoutMs = 100): Promise<void> {
    const nothing = new Wake();
    await nothing.after(nothing.now, { timeoutMs, signal: this.#stop.signal });
  }
}
