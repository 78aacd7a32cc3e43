/** The jobs of a host in memory: completely while they run, and only the needed facts of those that have ended. */
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import type { KnownJob } from '../../core/job/known-job.ts';
import { LaterJobs } from '../../core/job/later-jobs.ts';
import { type EndedJob, openedLog } from './ended-job.ts';
import { JobLog } from './job-log.ts';

/** A process may have some hundred files open. */
const inTurn = pLimit(32);

export class JobsInMemory {
  readonly #logger: Logger;
  /** Oldest first. */
  readonly #logs = new Map<string, JobLog | EndedJob>();
  #later: { readonly jobs: readonly KnownJob[]; readonly later: LaterJobs } | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get(job: string): JobLog | EndedJob | undefined {
    return this.#logs.get(job);
  }

  has(job: string): boolean {
    return this.#logs.has(job);
  }

  /** Adds the newest job, or replaces what was known of it before. */
  set(job: string, log: JobLog | EndedJob): void {
    this.#logs.set(job, log);
  }

  delete(job: string): void {
    this.#logs.delete(job);
  }

  get ids(): ReadonlySet<string> {
    return new Set(this.#logs.keys());
  }

  get oldestFirst(): readonly KnownJob[] {
    return [...this.#logs.values()].map(({ known }) => known);
  }

  get newestFirst(): readonly (JobLog | EndedJob)[] {
    return [...this.#logs.values()].toReversed();
  }

  /** The complete jobs. A job whose journal was changed or removed is logged, and left out. */
  async openAll(logs: readonly (JobLog | EndedJob)[]): Promise<readonly JobLog[]> {
    const opened = logs.map(async (log) => {
      return await inTurn(async () => await openedLog(log)).catch((error: unknown) => {
        this.#logger.error({ err: error, job: log.job.accepted.job }, 'A journal cannot be read');
        return [];
      });
    });
    return (await Promise.all(opened)).flat();
  }

  /** The jobs that have not ended, newest first. */
  get active(): readonly JobLog[] {
    return this.newestFirst.filter((log) => log instanceof JobLog).filter(({ ended }) => !ended);
  }

  /** The present effects of newer jobs on an older one. */
  get later(): LaterJobs {
    const jobs = this.oldestFirst;
    const known = this.#later;
    const isSame = known?.jobs.length === jobs.length && jobs.every((job, at) => job === known.jobs[at]);
    if (known !== undefined && isSame) return known.later;
    const later = new LaterJobs(jobs);
    this.#later = { jobs, later };
    return later;
  }

  /** When the last entry of a job was written (performance.now()); -Infinity if before this process began. */
  writtenMs(job: string): number {
    const log = this.#logs.get(job);
    return log instanceof JobLog ? log.writtenMs : -Infinity;
  }
}
