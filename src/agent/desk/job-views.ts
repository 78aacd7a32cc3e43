/** Jobs as callers see them: each with its progress, and with the effects of other jobs and of open files. */

import { hasEnded, type Job } from '../../core/job/job.ts';
import { type JobView, publicJob } from '../../core/job/job-view.ts';
import type { LaterJobs } from '../../core/job/later-jobs.ts';
import type { Outcome } from '../../core/job/outcome.ts';
import { outcomeOf } from '../../core/job/outcome-of.ts';
import { defined } from '../../lib/defined.ts';
import { inTime } from '../../lib/timer.ts';
import { freeFiles } from '../files/free-files.ts';
import { fileNamesOf } from '../host/file-identity.ts';
import type { JobTable } from '../job/job-table.ts';
import type { Progresses } from '../job/progresses.ts';
import type { JobLog } from '../journal/job-log.ts';
import { graphsOf, type Holders, holderAmong, orLaterJob } from '../qemu/graphs.ts';
import type { VirtualMachines } from '../qemu/virtual-machines.ts';

/** A file on storage that hangs is not named: an answer does not wait for it. */
const STORAGE_ANSWERS_MS = 5000;

export class JobViews {
  readonly #machines: VirtualMachines;
  readonly #progresses: Progresses;
  readonly #jobs: JobTable;
  /** The last one of each job that goes on. */
  readonly #shown = new WeakMap<Job, JobView>();

  constructor(machines: VirtualMachines, progresses: Progresses, jobs: JobTable) {
    this.#machines = machines;
    this.#progresses = progresses;
    this.#jobs = jobs;
  }

  /** As in its journal; that is current for a running job. */
  asWritten(job: Job): JobView {
    return { job: publicJob(job), progress: this.#progresses.of(job) };
  }

  /** As in its journal, too: while the job goes on it is one object for all its watchers, who keep it. */
  kept(job: Job): JobView {
    return hasEnded(job) ? this.asWritten(job) : this.#goingOn(job);
  }

  /** The present job, as far as it is known without asking QEMU for its progress. */
  async of(job: Job): Promise<JobView> {
    const [view] = await this.#views([job]);
    return view ?? this.asWritten(job);
  }

  /** Also asks QEMU for their progress. */
  async now(logs: readonly JobLog[]): Promise<readonly JobView[]> {
    await this.#progresses.refresh(logs);
    return await this.#views(logs.map(({ job }) => job));
  }

  /** The same object until there is something new, so that callers can share what is made of it. */
  #goingOn(job: Job): JobView {
    const last = this.#shown.get(job);
    if (last !== undefined && last.progress === this.#progresses.of(job)) return last;
    const view = this.#atLastSample(job);
    this.#shown.set(job, view);
    return view;
  }

  /** While QEMU has the job and it continues, its guest has not moved. */
  #atLastSample(job: Job): JobView {
    const view = this.asWritten(job);
    const { outcome } = view.job;
    const guestAsOf = outcome.guestWritesTo === undefined ? undefined : view.progress?.sampleTime;
    const writtenMs = this.#jobs.known.writtenMs(job.accepted.job);
    const isNewer = guestAsOf !== undefined && this.#progresses.seenMs(job) > writtenMs;
    return isNewer ? { ...view, job: { ...view.job, outcome: { ...outcome, guestAsOf } } } : view;
  }

  async #views(jobs: readonly Job[]): Promise<readonly JobView[]> {
    if (!jobs.some(hasEnded)) return jobs.map((job) => this.#goingOn(job));
    let holders: Promise<Holders> | undefined;
    // For a file that is still there: most of them were deleted long ago.
    const holder = async (path: string) => {
      holders ??= graphsOf(this.#machines).then((graphs) => holderAmong(graphs));
      return await (await holders)(path);
    };
    const later = this.#jobs.known.later;
    return await Promise.all(
      jobs.map(async (job) => {
        if (!hasEnded(job)) return this.#goingOn(job);
        const view = this.asWritten(job);
        return { ...view, job: { ...view.job, outcome: await outcomeNow(job, holder, later) } };
      }),
    );
  }
}

async function outcomeNow(job: Job, holder: Holders, later: LaterJobs): Promise<Outcome> {
  const { accepted } = job;
  const outcome = outcomeOf(job);
  const id = accepted.job;
  const path = accepted.destination?.path;
  const names = path === undefined ? undefined : ((await inTime(fileNamesOf(path), STORAGE_ANSWERS_MS)) ?? { path });
  const free = freeFiles(job, outcome.safeToDelete, orLaterJob(holder, id, later));
  const guestChangedBy = later.thatMoved({ accepted, outcome });
  const destinationChangedBy = names && later.withFile(id, names);
  return {
    ...outcome,
    safeToDelete: outcome.safeToDelete.length === 0 ? [] : ((await inTime(free, STORAGE_ANSWERS_MS)) ?? []),
    ...defined({ guestChangedBy, destinationChangedBy }),
  };
}
