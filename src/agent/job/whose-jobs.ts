/** Which jobs in a QEMU are for this service to look after, or to clean up: another one may have some there, too. */
import { ownerOf } from '../../core/job/names.ts';
import type { JobTable } from './job-table.ts';

/** What the ids of jobs begin with, as `ownerOf` reads it. */
export interface Owners {
  /** Of those that are begun here. */
  readonly own: string;
  /** Of those whose state folders are lost: they are taken up here, too. */
  readonly adopted: readonly string[];
}

export class WhoseJobs {
  readonly #owners: ReadonlySet<string>;
  readonly #jobs: Pick<JobTable, 'known' | 'others'>;

  constructor({ own, adopted }: Owners, jobs: Pick<JobTable, 'known' | 'others'>) {
    this.#owners = new Set([own, ...adopted]);
    this.#jobs = jobs;
  }

  /** Another service drives a job that is not, or does so when it is started again. */
  isOurs(job: string): boolean {
    return this.#jobs.known.has(job) || this.#owners.has(ownerOf(job));
  }

  /** As isOurs, also where nothing but the name of a journal that cannot be read tells it. */
  async wasOurs(job: string): Promise<boolean> {
    return this.isOurs(job) || (await this.#jobs.others()).some((name) => name.startsWith(job));
  }
}
