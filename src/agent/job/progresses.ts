/**
 * The progress of jobs. A domain is asked once per interval, however many clients watch, and every two seconds in any
 * case (sampler.ts). Callers who come together share an answer. It is only kept as the latest value: it is neither
 * queued nor written down.
 */
import type { EndVerdict } from '../../core/job/convergence.ts';
import { hasEnded, type Job } from '../../core/job/job.ts';
import { isJobId } from '../../core/job/names.ts';
import {
  NO_HISTORY,
  observe,
  type Progress,
  type ProgressHistory,
  progressShown,
  type Sample,
  verifying,
} from '../../core/job/progress.ts';
import type { QemuBlockJob } from '../../core/qemu/replies.ts';
import { timestamp } from '../../lib/clock.ts';
import { inTime, Timer } from '../../lib/timer.ts';
import type { JobLog } from '../journal/job-log.ts';
import { QEMU_ANSWERS_MS } from '../qemu/graphs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

interface Slot {
  readonly history: ProgressHistory;
  readonly progress: Progress;
  readonly speedBytesPerSecond: number;
  /** The reason why a requested end is not done, in words. */
  readonly waitsFor: string;
  /** The progress as it was last shown. */
  last?: { readonly job: Job; readonly progress: Progress };
}

/** More of what QEMU counts, by job: the end of a window. */
export type Windows = ReadonlyMap<string, Omit<NonNullable<Sample['window']>, 'limitBytesPerSecond'>>;

/** The contract says it, in the comment of Progress. */
const SHARED_MS = 5;

interface Question {
  /** Rejects if QEMU must not be asked now: its connection is being handled elsewhere. */
  readonly answer: Promise<void>;
  /** For callers: they do not wait longer for it, and get the last value. */
  readonly soon: Promise<unknown>;
  readonly askedMs: number;
  /** The changes of the VM that were known then. */
  readonly changes: number;
  /** Infinity while QEMU has not answered. */
  sharedUntilMs: number;
}

interface Poll {
  readonly intervals: Set<{ readonly intervalMs: number }>;
  timer: Timer | undefined;
}

export class Progresses {
  readonly #machines: VirtualMachines;
  readonly #sampled: (job: string) => void;
  readonly #slots = new Map<string, Slot>();
  /** Jobs that had copied before this process drove them, and have not been asked since. */
  readonly #copiedBefore = new Set<string>();
  readonly #polls = new Map<VirtualMachine, Poll>();
  /** The last one to each VM. */
  readonly #questions = new WeakMap<VirtualMachine, Question>();
  #copiedBytes = 0;

  /** `sampled` is called for each new value of a job. */
  constructor(machines: VirtualMachines, sampled: (job: string) => void) {
    this.#machines = machines;
    this.#sampled = sampled;
  }

  of(job: Job): Progress | undefined {
    const slot = this.#slots.get(job.accepted.job);
    if (slot === undefined) return undefined;
    // The same object until there is something new.
    if (slot.last?.job !== job) slot.last = { job, progress: progressShown(job, slot.progress, slot.waitsFor) };
    return slot.last.progress;
  }

  /** Whether the job will end, as of the last window. */
  verdictOn({ accepted }: Job): EndVerdict | undefined {
    return this.#slots.get(accepted.job)?.history.course.verdict;
  }

  /** Takes the reason why a requested end is not done. */
  waits({ accepted }: Job, waitsFor: string): void {
    const slot = this.#slots.get(accepted.job);
    if (slot === undefined || slot.waitsFor === waitsFor) return;
    const { last: _last, ...rest } = slot;
    this.#slots.set(accepted.job, { ...rest, waitsFor });
    this.#sampled(accepted.job);
  }

  /** When QEMU last reported the progress, on the clock of performance.now(). */
  seenMs({ accepted }: Job): number {
    return this.#slots.get(accepted.job)?.history.samples.at(-1)?.atMs ?? -Infinity;
  }

  /** The bytes that all jobs have copied since this process began, as far as QEMU was asked. */
  get copiedBytes(): number {
    return this.#copiedBytes;
  }

  /** For a job that began before this process. */
  goOn({ accepted }: Job): void {
    this.#copiedBefore.add(accepted.job);
  }

  /** An ended job keeps its last value for later requests, and not what it was computed from. */
  end(job: string): void {
    const slot = this.#slots.get(job);
    if (slot !== undefined) this.#slots.set(job, { ...slot, history: NO_HISTORY });
  }

  forget(job: string): void {
    this.#slots.delete(job);
  }

  /** It is being compared, not copied yet. */
  verify({ accepted }: Job, bytes: number, ofBytes: number): void {
    const progress = verifying(bytes, ofBytes, timestamp());
    this.#slots.set(accepted.job, { history: NO_HISTORY, progress, speedBytesPerSecond: 0, waitsFor: '' });
    this.#sampled(accepted.job);
  }

  /** Asks QEMU, unless its last answer is new enough; without a quick answer the last value stays. */
  async refresh(logs: readonly Pick<JobLog, 'job' | 'writtenMs'>[]): Promise<void> {
    const questions = new Set<Question>();
    for (const log of logs) {
      const question = this.#questionFor(log);
      if (question?.sharedUntilMs === Infinity) questions.add(question);
    }
    if (questions.size > 0) await Promise.all([...questions].map(async ({ soon }) => await soon));
  }

  #questionFor({ job, writtenMs }: Pick<JobLog, 'job' | 'writtenMs'>): Question | undefined {
    const machine = hasEnded(job) ? undefined : this.#machines.of(job.accepted);
    if (machine === undefined) return undefined;
    const last = this.#questions.get(machine);
    // A caller that has changed the job, or has heard of a change, must not get an answer from before it.
    const isSince = last !== undefined && last.askedMs >= writtenMs && last.changes === machine.wake.now;
    return isSince && performance.now() <= last.sharedUntilMs ? last : this.#ask(machine);
  }

  /** Asks the job's domain regularly until disposed. */
  poll(log: JobLog, intervalMs: number): Disposable {
    const machine = this.#machines.of(log.job.accepted);
    if (machine === undefined) return { [Symbol.dispose]: () => undefined };
    const poll = this.#polls.get(machine) ?? { intervals: new Set(), timer: undefined };
    this.#polls.set(machine, poll);
    const interest = { intervalMs };
    poll.intervals.add(interest);
    this.#schedule(machine, poll);
    return {
      [Symbol.dispose]: () => {
        poll.intervals.delete(interest);
        if (poll.intervals.size > 0) return;
        poll.timer?.[Symbol.dispose]();
        this.#polls.delete(machine);
      },
    };
  }

  /** The shortest interval of all watchers; the next question waits for the last answer. */
  #schedule(machine: VirtualMachine, poll: Poll): void {
    poll.timer?.[Symbol.dispose]();
    const intervalMs = Math.min(...[...poll.intervals].map((interest) => interest.intervalMs));
    poll.timer = new Timer(() => {
      const again = () => {
        if (this.#polls.get(machine) === poll) this.#schedule(machine, poll);
      };
      this.#ask(machine).answer.then(again, again);
    }, intervalMs);
  }

  #ask(machine: VirtualMachine): Question {
    const ask = async () => {
      try {
        // No event of QEMU reports a changed limit.
        if (this.take(await machine.blockJobs())) machine.wake.notify();
        question.sharedUntilMs = performance.now() + SHARED_MS;
      } catch (error) {
        question.sharedUntilMs = -Infinity;
        throw error;
      }
    };
    const [askedMs, changes] = [performance.now(), machine.wake.now];
    const answer = ask();
    const soon = inTime(answer, QEMU_ANSWERS_MS);
    const question: Question = { answer, soon, askedMs, changes, sharedUntilMs: Infinity };
    this.#questions.set(machine, question);
    return question;
  }

  /** Takes a report of QEMU, no matter who asked; true if the job has another limit than before. */
  take(blockJobs: readonly QemuBlockJob[], windows?: Windows): boolean {
    let isOtherLimit = false;
    const now = { atMs: performance.now(), time: timestamp() };
    for (const job of blockJobs) {
      if (job.status === 'concluded' || !isJobId(job.id)) continue;
      const before = this.#slots.get(job.id);
      const { speedBytesPerSecond } = job;
      const window = windows?.get(job.id);
      const known = before?.history.samples.at(-1)?.offsetBytes ?? 0;
      const isKnown = !this.#copiedBefore.delete(job.id);
      if (isKnown) this.#copiedBytes += Math.max(0, job.offsetBytes - known);
      isOtherLimit ||= before !== undefined && before.speedBytesPerSecond !== speedBytesPerSecond;
      const { history, progress } = observe(before?.history ?? NO_HISTORY, {
        ...now,
        offsetBytes: job.offsetBytes,
        lengthBytes: job.lengthBytes,
        // A job does not return from READY to copying.
        ready: !['created', 'running', 'paused'].includes(job.status),
        window: window && { ...window, limitBytesPerSecond: speedBytesPerSecond },
      });
      this.#slots.set(job.id, { history, progress, speedBytesPerSecond, waitsFor: before?.waitsFor ?? '' });
      this.#sampled(job.id);
    }
    return isOtherLimit;
  }
}
