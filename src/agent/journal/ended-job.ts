/**
 * A job that has ended. Its journal is read on request, and stays the only place of its history. The facts in memory
 * come from it, too: when the service begins, or when the job ends.
 */
import { join } from 'node:path';
import { fail } from '../../core/errors.ts';
import { hasEnded } from '../../core/job/job.ts';
import type { RequestMark } from '../../core/job/journal-entry.ts';
import { type KnownJob, knownOf } from '../../core/job/known-job.ts';
import { JobLog, type Journals } from './job-log.ts';
import { type ReadJournal, SUFFIX } from './journal.ts';
import { readJournal } from './journal-folder.ts';

/** The facts in memory. */
export interface Told {
  readonly job: KnownJob;
  readonly requests: readonly RequestMark[];
  /** Its start failed, and left something over. */
  readonly refused: boolean;
}

export class EndedJob {
  readonly ended = true;
  readonly told: Told;
  readonly #journals: Journals;
  /** Shared by all that read it at the same time. */
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

  /** As JobLog has it: the last entry has the stamp of the clock. */
  get position(): number {
    return this.told.job.endedMs ?? 0;
  }

  get requests(): readonly RequestMark[] {
    return this.told.requests;
  }

  get refused(): boolean {
    return this.told.refused;
  }

  /** Rejects with ACCESS_DENIED if the journal was changed or removed. */
  async open(): Promise<JobLog> {
    const opened = this.#opened?.deref();
    if (opened !== undefined) return opened;
    const { folder } = this.#journals;
    const { job } = this.job.accepted;
    const { read } = await readJournal(folder, job + SUFFIX);
    const isIt = read !== undefined && !(read instanceof Error) && read.job.accepted.job === job && hasEnded(read.job);
    if (!isIt) {
      const why = read instanceof Error ? read.message : 'this journal was changed by another process';
      return fail('ACCESS_DENIED', { path: join(folder, job + SUFFIX), why });
    }
    const log = JobLog.ended(this.#journals, read);
    this.#opened = new WeakRef(log);
    return log;
  }
}

/** The facts of a journal that stay in memory. */
export function toldIn({ job, entries }: ReadJournal): Told {
  const requests = entries.flatMap(({ request }) => request ?? []);
  return { job: knownOf(job), requests, refused: job.ended?.entry === 'refused' };
}

/** The complete job, running or ended. Rejects as `open` does. */
export async function openedLog(one: JobLog | EndedJob): Promise<JobLog> {
  return one instanceof EndedJob ? await one.open() : one;
}
