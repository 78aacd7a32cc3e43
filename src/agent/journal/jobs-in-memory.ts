/** The jobs of a host, as far as they are in memory: whole while they go on, and of those that have ended what is to be known. */
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

  /** It is the newest one, or in the place of what was known of it before. */
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

  /** The whole stories of these. One whose journal somebody has changed or removed is told, and left out. */
  async openAll(logs: readonly (JobLog | EndedJob)[]): Promise<readonly JobLog[]> {
    const opened = logs.map(async (log) => {
      return await inTurn(async () => await openedLog(log)).catch((error: unknown) => {
        this.#logger.error({ err: error, job: log.job.accepted.job }, 'a journal cannot be read');
        return [];
      });
    });
    return (await Promise.all(opened)).flat();
  }

  /** Those that have not ended, newest first. */
  get active(): readonly JobLog[] {
    return this.newestFirst.filter((log) => log instanceof JobLog).filter(({ ended }) => !ended);
  }

  /** What newer jobs have made of what an older one says, as of now. */
  get later(): LaterJobs {
    const jobs = this.oldestFirst;
    const known = this.#later;
    const isSame = known?.jobs.length === jobs.length && jobs.every((job, at) => job === known.jobs[at]);
    if (known !== undefined && isSame) return known.later;
    const later = new LaterJobs(jobs);
    this.#later = { jobs, later };
    return later;
  }

  /** When the last entry of a job was written, as performance.now() counts; before this process began. */
  writtenMs(job: string): number {
    const log = this.#logs.get(job);
    return log instanceof JobLog ? log.writtenMs : -Infinity;
  }
}
