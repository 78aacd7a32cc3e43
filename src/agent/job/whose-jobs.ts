/** The owner of a job in QEMU: this service drives it and cleans it up, or another service does. */
import { ownerOf } from '../../core/job/names.ts';
import type { JobTable } from './job-table.ts';

/** The beginning of the ids of jobs, as `ownerOf` reads it. */
export interface Owners {
  /** The owner of new jobs. */
  readonly own: string;
  /** Owners whose state folders are lost: their jobs are taken up here, too. */
  readonly adopted: readonly string[];
}

export class WhoseJobs {
  readonly #owners: ReadonlySet<string>;
  readonly #jobs: Pick<JobTable, 'known' | 'others'>;

  constructor({ own, adopted }: Owners, jobs: Pick<JobTable, 'known' | 'others'>) {
    this.#owners = new Set([own, ...adopted]);
    this.#jobs = jobs;
  }

  /** Another service drives any other job, or will when it is started again. */
  isOurs(job: string): boolean {
    return this.#jobs.known.has(job) || this.#owners.has(ownerOf(job));
  }

  /** Like isOurs, also if only the name of an unreadable journal shows it. */
  async wasOurs(job: string): Promise<boolean> {
    return this.isOurs(job) || (await this.#jobs.others()).some((name) => name.startsWith(job));
  }
}
