/**
 * The jobs that go on, as one stream of WatchJobs tells of them, and how old that is. A number is current for as long as
 * the stream goes on, its host answers, and QEMU was asked again a moment ago; after that it is an old one.
 */
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { HostSynced, WatchJobsResponse } from '../generated/es/blockjob/v1/block_job_service_pb.js';
import { type Job, Job_State, type JobEvent, JobEvent_Kind } from '../generated/es/blockjob/v1/job_pb.js';
import { isEnded } from './words.ts';

/** QEMU is asked each second. */
const OLD_MS = 5000;

interface Known {
  readonly job: Job;
  /** When QEMU was last asked, on the clock of this browser; before all times if that is not known. */
  readonly measuredMs: number;
  /** Whether the present stream has told of it. */
  isHeard: boolean;
}

export class JobsNow {
  readonly #jobs = new Map<string, Known>();
  /** Hosts whose snapshot has begun, each with the jobs that it has so far. */
  readonly #snapshots = new Map<string, Set<string>>();
  readonly #unreachable = new Map<string, string>();
  #isComplete = false;

  get running(): readonly Job[] {
    return [...this.#jobs.values()].map(({ job }) => job);
  }

  get(id: string): Job | undefined {
    return this.#jobs.get(id)?.job;
  }

  /** Each host has told what there is, or is named as one that does not answer. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Why each of them does not answer. */
  get unreachableHosts(): ReadonlyMap<string, string> {
    return this.#unreachable;
  }

  /** Its numbers, if it has any, are those of now. */
  isCurrent({ id, host }: Job): boolean {
    const known = this.#jobs.get(id);
    if (known === undefined || !this.#isComplete || this.#unreachable.has(host)) return false;
    return known.job.progress === undefined || performance.now() - known.measuredMs < OLD_MS;
  }

  /** The stream is lost: what it has told is of then. */
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
    // Without a token in each message, those after the last one are told again.
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
 * The clock of the host may differ from this one's. A snapshot says what time it is there. Other numbers are of now if
 * they follow on some that this stream has told before: the first ones may have waited for us for long.
 */
function measuredMs({ kind, time, job }: JobEvent, before: Known | undefined): number {
  const sampled = job?.progress?.sampleTime;
  const known = before?.measuredMs ?? -Infinity;
  if (sampled === undefined) return known;
  const now = performance.now();
  if (kind === JobEvent_Kind.SNAPSHOT && time !== undefined) return now - (timestampMs(time) - timestampMs(sampled));
  const last = before?.job.progress?.sampleTime;
  const isOther = last === undefined || timestampMs(sampled) > timestampMs(last);
  return isOther && before?.isHeard === true ? now : known;
}
