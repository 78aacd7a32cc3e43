/**
 * The active jobs, as one stream of WatchJobs shows them, and the age of their numbers. A number is current while the
 * stream goes on, its host answers, and QEMU was asked a moment ago. Otherwise it is old.
 */
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { HostSynced, WatchJobsResponse } from '../generated/es/blockjob/v1/block_job_service_pb.js';
import { type Job, Job_State, type JobEvent, JobEvent_Kind } from '../generated/es/blockjob/v1/job_pb.js';
import { isEnded } from './words.ts';

/** The service asks QEMU each second. */
const OLD_MS = 5000;

interface Known {
  readonly job: Job;
  /** The time at which QEMU was last asked, on the clock of this browser. -Infinity: not known. */
  readonly measuredMs: number;
  /** The present stream has had an event of it. */
  isHeard: boolean;
}

export class JobsNow {
  readonly #jobs = new Map<string, Known>();
  /** The hosts with an unfinished snapshot, each with the jobs in it so far. */
  readonly #snapshots = new Map<string, Set<string>>();
  readonly #unreachable = new Map<string, string>();
  #isComplete = false;

  get running(): readonly Job[] {
    return [...this.#jobs.values()].map(({ job }) => job);
  }

  get(id: string): Job | undefined {
    return this.#jobs.get(id)?.job;
  }

  /** Each host is synced, or was named unreachable. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** The hosts that do not answer, each with the reason. */
  get unreachableHosts(): ReadonlyMap<string, string> {
    return this.#unreachable;
  }

  /** Says whether the numbers of an active job are current. A job without numbers has no old ones. */
  isCurrent({ id, host }: Job): boolean {
    const known = this.#jobs.get(id);
    if (known === undefined || !this.#isComplete || this.#unreachable.has(host)) return false;
    return known.job.progress === undefined || performance.now() - known.measuredMs < OLD_MS;
  }

  /** Marks all numbers as old, because the stream is lost. */
  lose(): void {
    this.#isComplete = false;
    this.#snapshots.clear();
    this.#unreachable.clear();
    for (const known of this.#jobs.values()) known.isHeard = false;
  }

  /** Returns whether a job may have ended. */
  take({ about }: WatchJobsResponse): boolean {
    switch (about.case) {
      case 'event':
        return this.#event(about.value);
      case 'snapshot':
        this.#snapshots.set(about.value.host, new Set());
        return false;
      case 'synced':
        return this.#synced(about.value);
      case 'unreachable':
        this.#unreachable.set(about.value.host, about.value.error?.message ?? 'it does not answer');
        return false;
      case 'complete':
        this.#isComplete = true;
        return false;
      default:
        return false;
    }
  }

  #event(event: JobEvent): boolean {
    const { job, revision } = event;
    if (job === undefined) return false;
    const { id } = job;
    const before = this.#jobs.get(id);
    const snapshot = this.#snapshots.get(job.host);
    // The service repeats events after the last token.
    if (snapshot === undefined && revision < (before?.job.revision ?? 0n)) return false;
    snapshot?.add(id);
    if (isEnded(job)) {
      this.#jobs.delete(id);
      return true;
    }
    const progress = job.progress ?? before?.job.progress;
    this.#jobs.set(id, {
      job: progress === undefined ? job : { ...job, progress },
      measuredMs: measuredMs(event, before),
      isHeard: true,
    });
    return false;
  }

  #synced({ host, startingJobIds }: HostSynced): boolean {
    this.#unreachable.delete(host);
    const snapshot = this.#snapshots.get(host);
    this.#snapshots.delete(host);
    for (const [id, { job }] of this.#jobs) {
      if (job.host !== host) continue;
      const isRefused = job.state === Job_State.STARTING && !startingJobIds.includes(id);
      if (isRefused || snapshot?.has(id) === false) this.#jobs.delete(id);
    }
    return true;
  }
}

/**
 * The clock of the host may differ from this one. A snapshot has the time at which it was sent. Other numbers are current
 * if they follow earlier ones on the same stream: the first ones may be old, because the service keeps them for watchers.
 */
function measuredMs({ kind, time, job }: JobEvent, before: Known | undefined): number {
  const sampled = job?.progress?.sampleTime;
  const known = before?.measuredMs ?? -Infinity;
  if (sampled === undefined) return known;
  const now = performance.now();
  if (kind === JobEvent_Kind.SNAPSHOT && time !== undefined) {
    return now - Math.max(0, timestampMs(time) - timestampMs(sampled));
  }
  const last = before?.job.progress?.sampleTime;
  const isOther = last === undefined || timestampMs(sampled) !== timestampMs(last);
  return isOther && before?.isHeard === true ? now : known;
}
