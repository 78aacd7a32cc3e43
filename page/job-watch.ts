/** One job with its whole history: its watch, resumed behind the last revision that was seen. */
import { type Job, type JobEvent, JobEvent_Kind } from '../generated/es/blockjob/v1/job_pb.js';
import { type EventType, IS_ENTRY } from '../src/core/job/job-event.ts';
import { jobService, reasonOf, textOf } from './ask.ts';
import type { History } from './history.ts';

/** A journal has some dozens of lines; of a much longer one the last are shown. */
const MOST_ENTRIES = 500;

const TYPES = Object.keys(IS_ENTRY) as EventType[];
/** The entries of the journal, and any gap. */
const SHOWN: ReadonlySet<JobEvent_Kind> = new Set(
  TYPES.filter((type) => IS_ENTRY[type] || type === 'COMPACTED').map((type) => JobEvent_Kind[type]),
);

export class JobWatch {
  readonly jobId: string;
  job: Job | undefined;
  readonly entries: JobEvent[] = [];
  /** Why no such job can be shown. */
  refusal: string | undefined;
  /** Why the watch has no news now, while it is repeated. */
  trouble: string | undefined;
  readonly #history: History;
  readonly #changed: () => void;
  #revision = 0n;
  #isOver = false;
  #running: AbortController | undefined;

  constructor(jobId: string, history: History, changed: () => void) {
    this.jobId = jobId;
    this.#history = history;
    this.#changed = changed;
  }

  /** Watches, unless it does so already, or the job has ended. */
  go(): void {
    if (this.#running !== undefined || this.#isOver) return;
    const running = new AbortController();
    this.#running = running;
    this.#watch(running.signal)
      .catch((error: unknown) => {
        // Otherwise the next poll shows that the service is gone, and the one that succeeds starts this again.
        const reason = reasonOf(error);
        if (running.signal.aborted || reason === '' || reason === 'DRAINING') return;
        this.#isOver = ['JOB_NOT_FOUND', 'REVISION_UNKNOWN'].includes(reason);
        if (this.#isOver) this.refusal = textOf(error);
        else this.trouble = textOf(error);
      })
      .finally(() => {
        if (this.#running === running) this.#running = undefined;
        this.#changed();
      });
  }

  /** Other jobs may have changed an ended one's disk and files since. */
  async lookAgain(): Promise<void> {
    if (!this.#isOver || this.refusal !== undefined) return;
    await this.#askNow(undefined);
  }

  close(): void {
    this.#running?.abort();
    this.#running = undefined;
  }

  async #watch(signal: AbortSignal): Promise<void> {
    // The present state, at once: the journal begins with the past.
    await this.#askNow(signal);
    this.#changed();
    const request = { job: this.#ref, afterRevision: this.#revision };
    for await (const { event } of jobService.watchJob(request, { signal })) {
      if (event === undefined) continue;
      this.trouble = undefined;
      this.#revision = event.revision;
      if (SHOWN.has(event.kind)) this.entries.push(event);
      if (this.entries.length > MOST_ENTRIES) this.entries.shift();
      // Events of the past do not describe the present.
      const isPast = SHOWN.has(event.kind) && event.revision <= (this.job?.revision ?? 0n);
      if (!isPast) this.#take(event.job);
      this.#changed();
    }
    this.#isOver = true;
  }

  get #ref() {
    return { name: { case: 'jobId', value: this.jobId } } as const;
  }

  async #askNow(signal: AbortSignal | undefined): Promise<void> {
    const options = { timeoutMs: 10_000, ...(signal && { signal }) };
    this.#take((await jobService.getInfo({ job: this.#ref }, options)).job);
  }

  #take(job: Job | undefined): void {
    if (job === undefined || job.revision < (this.job?.revision ?? 0n)) return;
    const progress = job.progress ?? this.job?.progress;
    this.job = progress === undefined ? job : { ...job, progress };
    this.#history.add(job);
  }
}
