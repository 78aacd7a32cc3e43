/** The steps of one job, one by one: the start of its plan, the undo of a start, the clean-up at its end. */
import type { Logger } from 'pino';
import { carryBitmaps } from '../../core/disk/bitmaps.ts';
import { BlockJobError, type Failure, fail, failure } from '../../core/errors.ts';
import { ending, timeIsUp } from '../../core/job/ending.ts';
import { concludedJob, type Job } from '../../core/job/job.ts';
import { imageWritten } from '../../core/job/job-facts.ts';
import type { Concluded, EntryBody } from '../../core/job/journal-entry.ts';
import { outcomeAtEnd } from '../../core/job/outcome-of.ts';
import { VERIFY_STEP } from '../../core/job/reuse.ts';
import type { Action, Plan, Step } from '../../core/job/step.ts';
import { withUnwritten } from '../../core/job/unwritten.ts';
import { nextTogether, planSettling } from '../../core/plans/settling.ts';
import { isLive } from '../../core/qemu/guest-state.ts';
import { NOBODY, type Observer } from '../../lib/observer.ts';
import { NotSent } from '../../qmp/errors.ts';
import { removeFile } from '../files/files.ts';
import { freeFiles } from '../files/free-files.ts';
import { timeLeftMs } from '../host/host-clock.ts';
import { MadeIn } from '../host/pinned-folder.ts';
import type { JobLog } from '../journal/job-log.ts';
import { type Comparing, refuseOtherChain } from '../qemu/compare.ts';
import { failureFrom, isUnreachable } from '../qemu/failures.ts';
import type { Holders } from '../qemu/graphs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { type Done, perform, performAgain, type Workplace } from './executor.ts';
import type { JobHold } from './job-hold.ts';
import { type Presence, type Up, whyFailedAtOnce } from './look.ts';
import { refuseMigrating } from './migration.ts';

export interface JobStepsOptions {
  readonly log: JobLog;
  readonly observer?: Observer;
  /** The present holders of files. */
  readonly holder: () => Promise<Holders>;
  /** Called before the guest moves: `holder` will be asked soon. */
  readonly expectHolder: () => void;
  readonly hold: JobHold;
  /** Called with the progress of a comparison. */
  readonly onVerified?: (bytes: number, ofBytes: number) => void;
  /** Called right before the guest moves, or after a long start: rejects if this host must not make the change. */
  readonly mayPivot: (signal: AbortSignal) => Promise<void>;
  /** Aborted when the agent ends, and leaves the job to the next one. */
  readonly leaving: AbortSignal;
  readonly logger: Logger;
}

export class JobSteps {
  readonly madeIn = new MadeIn();
  readonly #log: JobLog;
  readonly #options: JobStepsOptions;
  readonly #observer: Observer;
  /** Why the start stopped, if that could not be written down. */
  #stoppedBy: Failure | undefined;

  constructor(options: JobStepsOptions) {
    this.#options = options;
    this.#observer = options.observer ?? NOBODY;
    this.#log = options.log;
  }

  get #job(): Job {
    return this.#log.ahead;
  }

  /** Does the steps of the plan, up to the first that fails. */
  async begin(qemu: Up): Promise<void> {
    qemu.machine.expect(this.#job.accepted.job);
    try {
      for (const step of this.#job.accepted.plan) {
        // `drive` undoes the steps.
        if (this.#isCancelled) return;
        const how = step.holdsGuest === undefined ? perform : this.#performHeld.bind(this);
        await this.#noteStarted([step]);
        if (!(await this.#do(step, qemu, how))) return;
      }
      await this.madeIn[Symbol.asyncDispose]();
    } catch (error) {
      this.#stoppedBy = this.#failureOf(error, 'starting the job');
      throw error;
    }
  }

  /** Pauses the guest first, if it runs. It is not resumed here: that is the first move for a running job. */
  async #performHeld(action: Action, workplace: Workplace<Up>): Promise<Done> {
    const { machine } = workplace.qemu;
    if (isLive(await machine.runState())) {
      const because = 'QEMU can crash when a blocking copy starts under a busy guest (seen with QEMU 7.2)';
      await this.#options.hold.hold(because, machine);
    }
    return await perform(action, workplace);
  }

  /** Undoes every step of the plan that may have happened, the last one first. Rejects while QEMU is unreachable. */
  async takeBack(qemu: Presence): Promise<void> {
    const known = this.#job.failure ?? this.#stoppedBy ?? this.#cancelled ?? this.#brokenOff;
    const why = known ?? (await whyFailedAtOnce(this.#job, qemu));
    for (const { name, undo } of this.#job.accepted.plan.toReversed()) {
      const state = this.#job.steps.get(name);
      if (undo === undefined || !['STARTED', 'DONE', 'UNKNOWN'].includes(state ?? '')) continue;
      await this.#log.append({ entry: 'undo-started', step: name, failure: why });
      try {
        // A node that could not be closed still uses those below it.
        if ([...this.#job.steps.values()].includes('UNDO_FAILED')) {
          fail('DESTINATION_IN_USE', { path: this.#about.path, by: 'a node above it is still open in QEMU' });
        }
        await performAgain(undo, this.#workplace(qemu));
      } catch (error) {
        if (isUnreachable(error)) throw error;
        const failed = this.#failureOf(error, `undo of ${name}`);
        await this.#log.append({ entry: 'undo-failed', step: name, failure: failed });
        continue;
      }
      await this.#log.append({ entry: 'undo-done', step: name });
    }
    await this.#log.append({ entry: 'refused', failure: why });
  }

  get #cancelled(): Failure | undefined {
    const job = this.#job.accepted.job;
    return this.#isCancelled ? failure('JOB_ENDED', { job, state: 'CANCELLED' }) : undefined;
  }

  /** The service that began it did not see its end. */
  get #brokenOff(): Failure | undefined {
    if (this.#job.steps.get(VERIFY_STEP) !== 'STARTED') return undefined;
    return failure('VERIFY_BROKEN_OFF', { path: this.#about.path, why: 'the service was restarted' });
  }

  get #isCancelled(): boolean {
    return this.#job.intent?.entry === 'cancel-requested';
  }

  /**
   * Dismisses the job, closes the nodes that nothing uses, and writes down how it ended. `leavesQemu`: QEMU is silent,
   * so it is not asked for anything, and nothing is deleted. `unwritten`: how QEMU's job has ended, if nobody knows yet.
   */
  async settle(
    qemu: Presence,
    { leavesQemu, unwritten = [] }: { readonly leavesQemu: boolean; readonly unwritten?: readonly Concluded[] },
  ): Promise<void> {
    let job = concludedJob(withUnwritten(this.#job, unwritten));
    for (let first: readonly EntryBody[] = unwritten; ; first = []) {
      const steps = nextTogether(job, planSettling(job, { leavesQemu }));
      await this.#noteStarted(steps, first);
      for (const step of steps) {
        await this.#do(step, qemu, performAgain);
        // A node that another client uses stays, and so do those below it. Without an answer: ask again.
        if (this.#job.steps.get(step.name) === 'UNKNOWN') return;
      }
      job = concludedJob(this.#job);
      if (steps.length === 0) break;
    }
    const failedTo = qemu.is === 'up' ? qemu.machine.heardEnds.failedTo(job.accepted.job) : undefined;
    const { state, failure: why } = ending(job, failedTo);
    const outcome = outcomeAtEnd(job);
    const named = leavesQemu ? [] : outcome.safeToDelete;
    const safeToDelete = named.length === 0 ? [] : await freeFiles(job, named, await this.#options.holder());
    await this.#log.append({ entry: 'ended', state, failure: why, outcome: { ...outcome, safeToDelete } });
    this.#options.logger.info({ state, why: why?.text, content: outcome.destinationContent }, 'The job has ended');
  }

  /** A step outside the plan: its failure costs only an increment of a backup. Rejects while QEMU is unreachable. */
  async carryBitmaps(qemu: Up): Promise<void> {
    const { source, destination } = this.#job.accepted;
    const { nodes } = await qemu.machine.graph();
    const [from, to] = [nodes.get(source.node), nodes.get(destination?.node ?? '')];
    const command = from === undefined || to === undefined ? undefined : carryBitmaps(from, to);
    if (command === undefined) return;
    const step = { name: 'carry-bitmaps', run: { do: 'qmp', command } } as const;
    await this.#noteStarted([step]);
    await this.#do(step, qemu, perform);
    if (this.#job.steps.get(step.name) === 'UNKNOWN') throw new NotSent(step.name, 'the answer was lost');
  }

  /** Does a step that is written down as started, and writes down its result; false if it was not done. */
  async #do<Q extends Presence>(
    { name, run }: Step,
    qemu: Q,
    how: (action: Action, workplace: Workplace<Q>) => Promise<Done>,
  ): Promise<boolean> {
    let done: Done;
    try {
      const doing = { does: 'step', step: name, job: this.#job.accepted.job } as const;
      done = await this.#observer.during(doing, async () => await how(run, this.#workplace(qemu)));
    } catch (error) {
      const entry = isUnreachable(error) ? 'step-unknown' : 'step-refused';
      await this.#log.append({ entry, step: name, failure: this.#failureOf(error, name) });
      return false;
    }
    this.#log.withNext({ entry: 'step-done', step: name, ...done });
    return true;
  }

  /** Nothing is done before these entries, and the results of earlier steps, are on disk. */
  async #noteStarted(steps: Plan, before: readonly EntryBody[] = []): Promise<void> {
    const started = steps.map(({ name: step }) => ({ entry: 'step-started', step }) as const);
    const [first, ...others] = [...before, ...started];
    if (first === undefined) return;
    try {
      await this.#log.append(first, ...others);
    } catch (error) {
      // If it is not written down, nobody owns the file.
      const made = this.#job.madeFile;
      if (made !== undefined && this.#log.job.madeFile === undefined) await removeFile(made, this.madeIn.folder);
      throw error;
    }
  }

  #workplace<Q extends Presence>(qemu: Q): Workplace<Q> {
    const { holder } = this.#options;
    const comparing = (machine: VirtualMachine) => this.#comparing(machine);
    return { ...this.#about, qemu, made: this.#job.madeFile, madeIn: this.madeIn, holder, comparing };
  }

  /** A comparison may take hours: the facts of the start's preparation are checked again during it, and at its end. */
  #comparing(machine: VirtualMachine): Comparing {
    const { leaving, onVerified = () => undefined, mayPivot } = this.#options;
    return {
      mayGoOn: () => {
        if (this.#cancelled !== undefined) throw new BlockJobError(this.#cancelled);
        if (timeLeftMs(this.#job, this.#log.clock) <= 0) throw new BlockJobError(timeIsUp(this.#job.accepted));
        if (leaving.aborted) fail('VERIFY_BROKEN_OFF', { path: this.#about.path, why: 'the service ends' });
      },
      onProgress: onVerified,
      whenEqual: async () => {
        await mayPivot(leaving);
        await refuseMigrating(machine);
        await refuseOtherChain(this.#job.accepted, machine);
      },
    };
  }

  /** For messages. */
  get #about(): { domain: string; path: string } {
    const { accepted } = this.#job;
    return { domain: accepted.domain, path: imageWritten(accepted) };
  }

  #failureOf(error: unknown, doing: string): Failure {
    const why = failureFrom(error, { ...this.#about, doing });
    if (why !== undefined) return why;
    const id = crypto.randomUUID();
    this.#options.logger.error({ err: error, id }, 'Internal error: a bug');
    return failure('BUG', { id });
  }
}
