/**
 * The interface in the middle: what this service does, in its own words. One agent a host implements it; one
 * server exposes it. All its methods throw BlockJobError, and nothing else on purpose.
 */
import type { Disk } from './chain.ts';
import type { Destination, NbdExport } from './destination.ts';
import type { Failure } from './errors.ts';
import type { Job } from './job.ts';
import type { ImageFormat, OnNoSpace, OnReady, PauseGuest, WriteMode } from './job-options.ts';
import type { Accepted } from './journal-entry.ts';
import type { PlannedStep } from './plans/preview.ts';
import type { Progress } from './progress.ts';

/** Who waits for an answer. A caller that leaves stops waiting; the work goes on. */
export interface Call {
  /** Aborted when the caller has gone or its deadline has passed. */
  readonly signal: AbortSignal;
}

export interface DiskRef {
  /** The domain's name or UUID. */
  readonly domain: string;
  /** qdev id, block backend, node name of the top image, or that image's absolute path. */
  readonly disk: string;
}

export type JobRef = { readonly jobId: string } | { readonly disk: DiskRef };

/** A value of an enum that this version does not know: a newer client's. */
export interface Unrecognized {
  readonly unrecognized: number;
}

/** undefined: not given. */
export type Given<T> = T | Unrecognized | undefined;

/** A destination as it was asked for: the server of an NBD export may be missing. */
export type AskedDestination =
  | Exclude<Destination, { kind: 'nbd' }>
  | {
      readonly kind: 'nbd';
      readonly nbd: Omit<NbdExport, 'server'> & { readonly server: NbdExport['server'] | undefined };
    };

/** What every call that starts a job has. */
export interface StartRequest {
  readonly disk: DiskRef;
  readonly requestId: string;
  readonly validateOnly: boolean;
  readonly planEtag: string;
}

/** StartCopy as it was asked for. */
export interface CopyRequest extends StartRequest {
  readonly destination: AskedDestination | undefined;
  readonly format: Given<ImageFormat>;
  readonly shallow: boolean;
  readonly reuseExternal: boolean;
  readonly relativeBacking: boolean;
  readonly bandwidthBytesPerSecond: bigint;
  readonly granularityBytes: bigint;
  readonly bufferBytes: bigint;
  readonly writeMode: Given<WriteMode>;
  readonly onReady: Given<OnReady>;
  readonly onNoSpace: Given<OnNoSpace>;
  readonly pauseGuest: Given<PauseGuest>;
  readonly timeLimitMs: number | undefined;
}

export type RebaseFlag = 'SHALLOW' | 'REUSE_EXT' | 'COPY_RAW' | 'COPY' | 'RELATIVE' | 'COPY_DEV' | 'BANDWIDTH_BYTES';
export type CommitFlag = 'SHALLOW' | 'DELETE' | 'ACTIVE' | 'RELATIVE' | 'BANDWIDTH_BYTES';

export interface RebaseRequest extends StartRequest {
  /** '' for none. */
  readonly base: string;
  readonly flags: readonly Given<RebaseFlag>[];
  /** MiB/s, or bytes/s with BANDWIDTH_BYTES. */
  readonly bandwidth: bigint;
}

export interface CommitRequest extends StartRequest {
  /** '' for none. */
  readonly base: string;
  readonly top: string;
  readonly flags: readonly Given<CommitFlag>[];
  /** MiB/s, or bytes/s with BANDWIDTH_BYTES. */
  readonly bandwidth: bigint;
}

export interface AbortRequest {
  readonly job: JobRef;
  readonly pivot: boolean;
  /** Answer when the request is written down; else when the job has ended. */
  readonly async: boolean;
  /** Break off even where QEMU would drain or flush first. */
  readonly force: boolean;
  readonly pauseGuest: Given<PauseGuest>;
  readonly requestId: string;
}

export interface SetSpeedRequest {
  readonly job: JobRef;
  readonly bandwidthBytesPerSecond: bigint;
  readonly requestId: string;
}

/** Pause, and Resume. */
export interface PauseRequest {
  readonly job: JobRef;
  readonly requestId: string;
}

export interface ListJobsRequest {
  /** Name or UUID; '' for all. */
  readonly domain: string;
  readonly states: readonly Given<Job['state']>[];
  readonly pageSize: number;
  readonly pageToken: string;
}

export type Operation = 'SAVE' | 'SNAPSHOT' | 'REVERT' | 'DETACH' | 'RESIZE' | 'MIGRATE';

export interface CheckOperationRequest {
  readonly domain: string;
  /** Undefined: all disks. */
  readonly disk: string | undefined;
  readonly operation: Given<Operation>;
}

export interface WatchRequest {
  readonly job: JobRef;
  /** Send every event after this revision; undefined: begin with a SNAPSHOT. */
  readonly afterRevision: number | undefined;
  readonly progressIntervalMs: number | undefined;
}

/** A job and how far it is. */
export interface JobView {
  readonly job: Job;
  readonly progress: Progress | undefined;
}

/** What a start would do, if it were asked for now. Its job has no name yet: another holds the place. */
export interface PlannedJob {
  /** Equal for equal plans. */
  readonly etag: string;
  readonly accepted: Accepted;
  readonly steps: readonly PlannedStep[];
  /** What people should know, a sentence each. */
  readonly notes: readonly string[];
}

/** With validate_only the plan, and nothing is changed. */
export type Started = JobView | PlannedJob;

export interface JobEvent extends JobView {
  readonly type: 'SNAPSHOT' | 'STATE' | 'STEP' | 'PROGRESS' | 'SPEED' | 'PAUSED' | 'RESUMED' | 'HEARTBEAT';
  /** RFC 3339: when it happened; for SNAPSHOT, PROGRESS and HEARTBEAT, when it was sent. */
  readonly time: string;
  /** What the journal's entry says, in words. */
  readonly detail: string;
}

export type GuestState = 'RUNNING' | 'PAUSED' | 'IO_ERROR' | 'MIGRATING' | 'SHUT_OFF';

export interface Domain {
  readonly name: string;
  readonly uuid: string | undefined;
  readonly host: string;
  /** Reached over QMP now; else why not. */
  readonly connection:
    | {
        readonly up: true;
        readonly qemuVersion: string;
        /** Undefined where /proc does not tell. */
        readonly qemuPid: number | undefined;
        readonly guestState: GuestState | undefined;
      }
    | { readonly up: false; readonly why: Failure };
}

export interface DomainDisk {
  readonly disk: Disk;
  /** The device's QOM type, as virtio-blk-pci; undefined where QEMU does not tell. */
  readonly deviceType: string | undefined;
  readonly activeJob: JobView | undefined;
}

export interface BlockJobs {
  /** Answers when QEMU has accepted the job; a start that is refused changes nothing. */
  startCopy(request: CopyRequest, call: Call): Promise<Started>;
  /** As startCopy: a pull, or with COPY a copy. */
  rebase(request: RebaseRequest, call: Call): Promise<Started>;
  /** As startCopy. */
  commit(request: CommitRequest, call: Call): Promise<Started>;
  getInfo(job: JobRef, call: Call): Promise<JobView>;
  /** Newest first. */
  listJobs(request: ListJobsRequest, call: Call): Promise<{ jobs: readonly JobView[]; nextPageToken: string }>;
  abort(request: AbortRequest, call: Call): Promise<JobView>;
  /** Answers when QEMU has taken the limit; 0: none. */
  setSpeed(request: SetSpeedRequest, call: Call): Promise<JobView>;
  /** Answers when QEMU has paused the job; the guest goes on, and what it writes is left to copy. */
  pause(request: PauseRequest, call: Call): Promise<JobView>;
  /** Also continues a job that was paused for want of space: without room it is paused again at once. */
  resume(request: PauseRequest, call: Call): Promise<JobView>;
  /** Ends after the event that ends the job. Leaving it never touches the job. */
  watch(request: WatchRequest, call: Call): AsyncIterable<JobEvent>;
  /** Resolves if the operation may be done now; it is not held open. */
  checkOperation(request: CheckOperationRequest, call: Call): Promise<void>;
  listDomains(call: Call): Promise<readonly Domain[]>;
  getDomain(domain: string, call: Call): Promise<{ domain: Domain; disks: readonly DomainDisk[] }>;
}
