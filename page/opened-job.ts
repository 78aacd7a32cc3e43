/** The job that is shown in full, with its journal. Earlier entries are read once; later ones are in the stream of all jobs. */
import { type Job, type JobEvent, JobEvent_Kind } from '../generated/es/blockjob/v1/job_pb.js';
import { type EventType, IS_ENTRY } from '../src/core/job/job-event.ts';
import { jobService, PATIENCE } from './ask.ts';
import { reasonOf, textOf } from './reasons.ts';

/** A journal has some dozens of lines; of a much longer one the last are shown. */
const MOST_ENTRIES = 500;

const TYPES = Object.keys(IS_ENTRY) as EventType[];
const ENTRIES: ReadonlySet<JobEvent_Kind> = new Set(
  TYPES.filter((type) => IS_ENTRY[type]).map((type) => JobEvent_Kind[type]),
);

export class OpenedJob {
  readonly jobId: string;
  /** The entries of the journal, and any gap. */
  readonly entries: JobEvent[] = [];
  /** Why the job cannot be shown at all. */
  refusal: string | undefined;
  /** Why it could not be asked for the last time. */
  trouble: string | undefined;
  #job: Job | undefined;
  /** The revision of the last entry in `entries`. */
  #revision = 0n;
  readonly #closed = new AbortController();

  /** `job` is the last known state. Undefined: not known. */
  constructor(jobId: string, job: Job | undefined) {
    this.jobId = jobId;
    this.#job = job;
  }

  get job(): Job | undefined {
    return this.#job;
  }

  /** Takes the event if it is of this job. Returns true if earlier entries are missing. */
  take(event: JobEvent): boolean {
    if (event.job?.id !== this.jobId) return false;
    this.#show(event.job);
    if (!ENTRIES.has(event.kind)) return false;
    this.#append(event);
    return this.#revision < event.revision;
  }

  /** Reads the present state and the missing entries. Rejects if the service does not answer. */
  async look(): Promise<void> {
    if (this.refusal !== undefined) return;
    try {
      const { job } = await jobService.getInfo({ job: this.#ref }, { ...PATIENCE, signal: this.#closed.signal });
      this.#show(job);
      await this.#readJournal();
      this.trouble = undefined;
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      const reason = reasonOf(error);
      if (reason === '' || reason === 'DRAINING') throw error;
      if (reason === 'JOB_NOT_FOUND' || reason === 'REVISION_UNKNOWN') this.refusal = textOf(error);
      else this.trouble = textOf(error);
    }
  }

  close(): void {
    this.#closed.abort();
  }

  get #ref() {
    return { name: { case: 'jobId', value: this.jobId } } as const;
  }

  async #readJournal(): Promise<void> {
    const until = this.#job?.revision ?? 0n;
    if (this.#revision >= until) return;
    const request = { job: this.#ref, afterRevision: this.#revision };
    for await (const { event } of jobService.watchJob(request, { ...PATIENCE, signal: this.#closed.signal })) {
      if (event === undefined) continue;
      if (event.kind === JobEvent_Kind.COMPACTED) this.#begin(event);
      else if (ENTRIES.has(event.kind)) this.#append(event);
      // The stream of all jobs has the later entries.
      if (event.kind !== JobEvent_Kind.COMPACTED && event.revision >= until) return;
    }
  }

  #append(event: JobEvent): void {
    if (event.revision !== this.#revision + 1n) return;
    this.#revision = event.revision;
    this.entries.push(event);
    if (this.entries.length > MOST_ENTRIES) this.entries.shift();
  }

  /** Goes on after a gap. */
  #begin(event: JobEvent): void {
    this.#revision = event.oldestRevision - 1n;
    this.entries.push(event);
  }

  #show(job: Job | undefined): void {
    if (job === undefined || job.revision < (this.#job?.revision ?? 0n)) return;
    const progress = job.progress ?? this.#job?.progress;
    this.#job = progress === undefined ? job : { ...job, progress };
  }
}
