/** Every job of this host, ended ones included, and the drivers of the running ones. */
import type { Logger } from 'pino';
import type { Call } from '../../core/block-jobs.ts';
import { fail } from '../../core/errors.ts';
import type { Job } from '../../core/job/job.ts';
import type { Accepted, RequestMark } from '../../core/job/journal-entry.ts';
import { toForget } from '../../core/job/retention.ts';
import type { Limits } from '../../core/limits.ts';
import { NOBODY, type Observer } from '../../lib/observer.ts';
import { inTime } from '../../lib/timer.ts';
import { refusePivotWithoutRoom } from '../files/room.ts';
import { expectFileLocks } from '../host/proc.ts';
import { EndedJob } from '../journal/ended-job.ts';
import { JobLog, type Journals } from '../journal/job-log.ts';
import { JobsInMemory } from '../journal/jobs-in-memory.ts';
import { letGoOfJournal, othersIn, setAside } from '../journal/journal-folder.ts';
import { holderSince, QEMU_ANSWERS_MS } from '../qemu/graphs.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';
import { copiesBeside } from './copies-beside.ts';
import type { GuestHolds } from './guest-holds.ts';
import { noteFoundThrottle } from './guest-throttle.ts';
import type { Progresses } from './progresses.ts';
import { RequestIds } from './request-ids.ts';
import { RunningJob } from './running-job.ts';

export interface JobTableOptions {
  readonly machines: VirtualMachines;
  readonly progresses: Progresses;
  readonly holds: GuestHolds;
  readonly journals: Journals;
  readonly limits: Pick<Limits, 'jobs' | 'keep'>;
  /** Called before any change of a domain: rejects if this host must not make it. Undefined if all domains are ours. */
  readonly mayChange?: (domain: Pick<VirtualMachine, 'name' | 'uuid'>, call: Call) => Promise<void>;
  readonly observer?: Observer;
  /** Called for each job that ends while it is driven here. */
  readonly onEnded?: (job: Job) => void;
  /** Called when a start has failed, and its job no longer exists. */
  readonly onRefused?: () => void;
  readonly logger: Logger;
}

export class JobTable {
  readonly requests = new RequestIds((job) => this.known.get(job));
  readonly #options: JobTableOptions;
  readonly #observer: Observer;
  readonly known: JobsInMemory;
  readonly #running = new Map<string, { readonly job: RunningJob; readonly done: Promise<void> }>();
  /** Jobs whose first entry is being written. */
  #beginning = 0;
  readonly #recoveries = new Set<Promise<void>>();
  /** Jobs whose journal is written again. */
  readonly #recovered = new Set<string>();

  constructor(options: JobTableOptions) {
    this.#options = options;
    this.known = new JobsInMemory(options.logger);
    this.#observer = options.observer ?? NOBODY;
  }

  /** Throws TOO_MANY_JOBS. */
  refuseMore(): void {
    const { jobs } = this.#options.limits;
    if (this.#running.size + this.#beginning >= jobs) fail('TOO_MANY_JOBS', { limit: jobs });
  }

  /** The job exists when this returns, and its plan has begun. Rejects with the file system's error. */
  async begin(accepted: Accepted, request: RequestMark | undefined): Promise<JobLog> {
    this.refuseMore();
    this.#beginning += 1;
    // The first entry is announced only when the job can be found here.
    using _turn = this.#options.journals.clock.order.enter();
    try {
      const log = await JobLog.begin(this.#options.journals, accepted, request);
      this.known.set(accepted.job, log);
      const job = this.#runningJob(log);
      this.#lookAfter(log, job, async () => {
        await job.start();
        await this.#drive(job);
      });
      return log;
    } finally {
      this.#beginning -= 1;
    }
  }

  /** Takes up the jobs of journals, oldest first, and forgets those that ended long ago. */
  async adopt(logs: readonly (JobLog | EndedJob)[]): Promise<void> {
    for (const log of logs) this.#takeUp(log);
    await this.#forgetOld();
  }

  /** The search for jobs that callers may ask for at once. Never rejects. */
  waitFor(recovery: Promise<void>): void {
    this.#recoveries.add(recovery);
    void recovery.finally(() => this.#recoveries.delete(recovery));
  }

  /** Resolves when the search is complete, or takes too long. */
  async complete(): Promise<void> {
    await inTime(Promise.all(this.#recoveries), QEMU_ANSWERS_MS);
  }

  /** A job in QEMU without a journal: this begins a new one. */
  async recover(accepted: Accepted, machine: VirtualMachine): Promise<void> {
    // Two monitors of one QEMU report it at the same time: it is driven once.
    if (this.known.has(accepted.job) || this.#recovered.has(accepted.job)) return;
    this.#recovered.add(accepted.job);
    using _turn = this.#options.journals.clock.order.enter();
    try {
      await setAside(this.#options.journals.folder, accepted.job, 'unreadable');
      const log = await JobLog.begin(this.#options.journals, accepted);
      await log.append({ entry: 'running' });
      const because = this.#options.holds.becauseOf(machine, accepted.job);
      // Its end is determined and written down before its guest is resumed.
      if (because !== undefined) await log.append({ entry: 'guest-held', because });
      await noteFoundThrottle(log, machine);
      this.#takeUp(log);
    } finally {
      this.#recovered.delete(accepted.job);
    }
  }

  /** Whether a driver of this job will let go of its guest. */
  holdsGuest(job: string): boolean {
    return this.#running.has(job) && this.known.get(job)?.job.guestHeld === true;
  }

  #takeUp(log: JobLog | EndedJob): void {
    this.known.set(log.job.accepted.job, log);
    this.requests.learn(log);
    if (log instanceof EndedJob || log.ended) return;
    const job = this.#runningJob(log);
    this.#options.progresses.goOn(log.job);
    this.#lookAfter(log, job, async () => await this.#drive(job));
  }

  /** It lives longer than the call that began it. */
  async #drive(job: RunningJob): Promise<void> {
    await this.#observer.during({ does: 'look-after' }, async () => await job.drive());
  }

  /** Files in the folder of journals that belong to no job here. */
  async others(): Promise<readonly string[]> {
    return await othersIn(this.#options.journals.folder, this.known.ids);
  }

  /** Resolves when the job has no driver any more; nothing is left of a failed start then. */
  async left(log: JobLog): Promise<void> {
    await this.#running.get(log.job.accepted.job)?.done;
  }

  /** The job that runs on a device now. */
  activeOn(machine: VirtualMachine, qdev: string): JobLog | undefined {
    return this.onDevice(machine, qdev, this.known.active)[0];
  }

  /** The jobs of a device: of this process, and those that ended before it. */
  onDevice<T extends JobLog | EndedJob>(machine: VirtualMachine, qdev: string, logs: readonly T[]): readonly T[] {
    const { machines } = this.#options;
    return logs.filter(({ ended, job: { accepted } }) => {
      if (accepted.qdev !== qdev) return false;
      return ended ? machine.answersTo(accepted.domainUuid ?? accepted.domain) : machines.mayBeOf(machine, accepted);
    });
  }

  #runningJob(log: JobLog): RunningJob {
    const { machines, progresses, mayChange, logger } = this.#options;
    const { domain: name, domainUuid: uuid } = log.job.accepted;
    return new RunningJob({
      log,
      observer: this.#observer,
      machine: () => machines.of(log.job.accepted),
      arrivals: machines.arrivals,
      holder: async () => await holderSince(log.job.accepted.job, machines, () => this.known.later),
      expectHolder: expectFileLocks,
      holdOf: (machine) => this.#options.holds.of(machine),
      copiesBeside: () => copiesBeside(log.job, this.known.active, machines),
      mayPivot: async (signal) => {
        await mayChange?.({ name, uuid }, { signal });
        await refusePivotWithoutRoom(log.job);
      },
      onBlockJobs: (blockJobs) => void progresses.take(blockJobs),
      onWaits: (waits) => progresses.waits(log.job, waits),
      onVerified: (bytes, ofBytes) => progresses.verify(log.job, bytes, ofBytes),
      logger,
    });
  }

  #lookAfter(log: JobLog, job: RunningJob, work: () => Promise<void>): void {
    const id = log.job.accepted.job;
    const done = work()
      .then(async () => await this.#leave(log))
      .catch((error: unknown) => {
        this.#options.logger.fatal({ err: error, job: id }, 'A job has no driver any more; restart the agent');
      });
    this.#running.set(id, { job, done });
  }

  async #leave(log: JobLog): Promise<void> {
    const { accepted, steps } = log.job;
    if (log.refused && ![...steps.values()].includes('UNDO_FAILED')) {
      this.known.delete(accepted.job);
      this.#options.onRefused?.();
      this.#options.progresses.forget(accepted.job);
      await log.remove();
    } else {
      await log.close();
      if (log.ended) {
        this.known.set(accepted.job, EndedJob.of(this.#options.journals, log));
        this.#options.progresses.end(accepted.job);
      }
    }
    this.#running.delete(accepted.job);
    await this.#forgetOld();
    if (log.ended && !log.refused) this.#options.onEnded?.(log.job);
  }

  async #forgetOld(): Promise<void> {
    const { limits, journals, progresses, logger } = this.#options;
    for (const { accepted } of toForget(this.known.oldestFirst, limits.keep, journals.clock.nowMs)) {
      const job = this.known.get(accepted.job);
      if (job === undefined) continue;
      this.known.delete(accepted.job);
      this.requests.forget(job);
      progresses.forget(accepted.job);
      await letGoOfJournal(journals.folder, job.known, logger).catch((error: unknown) => {
        logger.warn({ err: error, job: accepted.job }, 'The journal of a job that ended long ago cannot be removed');
      });
    }
  }

  /** Jobs continue in QEMU; the next agent with this state folder takes them up. */
  async close(): Promise<void> {
    const running = [...this.#running.values()];
    for (const { job } of running) job.close();
    await Promise.all(running.map(async ({ done }) => await done));
    await this.#options.holds.close();
  }
}
