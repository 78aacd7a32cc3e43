/**
 * A job that has ended. Its journal is read when somebody asks for it, and stays the only place where its story is: what is
 * kept in memory was read there, too, when the service began or when the job ended.
 */
import { join } from 'node:path';
import { fail } from '../../core/errors.ts';
import { hasEnded } from '../../core/job/job.ts';
import type { RequestMark } from '../../core/job/journal-entry.ts';
import { type KnownJob, knownOf } from '../../core/job/known-job.ts';
import { JobLog, type Journals } from './job-log.ts';
import { type ReadJournal, SUFFIX } from './journal.ts';
import { readJournal } from './journal-folder.ts';

/** What is kept of it in memory. */
export interface Told {
  readonly job: KnownJob;
  readonly requests: readonly RequestMark[];
  /** The start came to nothing, and something of it is left over. */
  readonly refused: boolean;
}

export class EndedJob {
  readonly ended = true;
  readonly told: Told;
  readonly #journals: Journals;
  /** One for all who look at it at a time. */
  #opened: WeakRef<JobLog> | undefined;

  constructor(journals: Journals, told: Told) {
    this.#journals = journals;
    this.told = told;
  }

  static of(journals: Journals, { known: job, requests, refused }: JobLog): EndedJob {
    return new EndedJob(journals, { job, requests, refused });
  }

  get job(): KnownJob {
    return this.told.job;
  }

  get known(): KnownJob {
    return this.told.job;
  }

  get requests(): readonly RequestMark[] {
    return this.told.requests;
  }

  get refused(): boolean {
    return this.told.refused;
  }

  /** Rejects with ACCESS_DENIED where somebody has changed the journal, or removed it. */
  async open(): Promise<JobLog> {
    const opened = this.#opened?.deref();
    if (opened !== undefined) return opened;
    const { folder } = this.#journals;
    const { job } = this.job.accepted;
    const { read } = await readJournal(folder, job + SUFFIX);
    const isIt = read !== undefined && !(read instanceof Error) && read.job.accepted.job === job && hasEnded(read.job);
    if (!isIt) {
      const why = read instanceof Error ? read.message : 'somebody else has changed this journal';
      return fail('ACCESS_DENIED', { path: join(folder, job + SUFFIX), why });
    }
    const log = JobLog.ended(this.#journals, read);
    this.#opened = new WeakRef(log);
    return log;
  }
}

/** What is kept of what a journal tells. */
export function toldIn({ job, entries }: ReadJournal): Told {
  const requests = entries.flatMap(({ request }) => request ?? []);
  return { job: knownOf(job), requests, refused: job.ended?.entry === 'refused' };
}

/** The whole story of a job, whether it goes on or has ended. Rejects as `open` does. */
export async function openedLog(one: JobLog | EndedJob): Promise<JobLog> {
  return one instanceof EndedJob ? await one.open() : one;
}
