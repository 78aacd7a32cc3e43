/** Requests as callers send them, before any check. */
import type { Destination, Encryption, NbdExport } from './destination.ts';
import type { Job } from './job/job.ts';
import type { JobFilter, Labels, WatchFilter } from './job/labels.ts';
import type {
  Accept,
  AtDeadline,
  ConfigOwner,
  ImageFormat,
  OnNoSpace,
  OnReady,
  PauseGuest,
  WriteMode,
} from './job-options.ts';
import type { Positions } from './jobs-message.ts';

export interface DiskRef {
  /** The domain's name or UUID. */
  readonly domain: string;
  /** qdev id, block backend, node name of the top image, or that image's absolute path. */
  readonly disk: string;
}

export type JobRef = { readonly jobId: string } | { readonly disk: DiskRef };

/** A value of an enum that this version does not know, from a newer client. */
export interface Unrecognized {
  readonly unrecognized: number;
}

/** Undefined if it is not given. */
export type Given<T> = T | Unrecognized | undefined;

/** A destination as requested. The server of an NBD export may be missing. */
export type AskedDestination =
  | Exclude<Destination, { kind: 'nbd' }>
  | {
      readonly kind: 'nbd';
      readonly nbd: Omit<NbdExport, 'server'> & { readonly server: NbdExport['server'] | undefined };
    };

/** The fields of every call that starts a job. */
export interface StartRequest {
  readonly disk: DiskRef;
  readonly requestId: string;
  readonly validateOnly: boolean;
  readonly planEtag: string;
  readonly accept: readonly Given<Accept>[];
  /** Without effect on a job without a pivot. Undefined: the default of the host. */
  readonly configOwner?: Given<ConfigOwner>;
  readonly labels?: Labels;
}

/** The end policy of a copy, as requested. Undefined fields are not given. */
export interface AskedPolicy {
  readonly patienceMs: number | undefined;
  readonly ceilingBytesPerSecond: bigint;
  readonly switchToBlocking: boolean;
  readonly chooseGranularity: boolean;
  readonly atDeadline: Given<AtDeadline>;
  readonly maxGuestPauseMs: number | undefined;
  readonly guestThrottle?:
    | { readonly floorBytesPerSecond: bigint; readonly maxDurationMs: number | undefined }
    | undefined;
}

/** A StartCopy request. */
export interface CopyRequest extends StartRequest {
  readonly destination: AskedDestination | undefined;
  readonly format: Given<ImageFormat>;
  readonly encryption: Encryption | undefined;
  readonly shallow: boolean;
  readonly reuseExternal: boolean;
  readonly relativeBacking: boolean;
  readonly verifyReused: boolean;
  readonly bandwidthBytesPerSecond: bigint;
  readonly granularityBytes: bigint;
  readonly bufferBytes: bigint;
  readonly writeMode: Given<WriteMode>;
  readonly onReady: Given<OnReady>;
  readonly onNoSpace: Given<OnNoSpace>;
  readonly overcommit: boolean;
  readonly pauseGuest: Given<PauseGuest>;
  readonly timeLimitMs: number | undefined;
  readonly endPolicy?: AskedPolicy;
}

export type RebaseFlag = 'SHALLOW' | 'REUSE_EXT' | 'COPY_RAW' | 'COPY' | 'RELATIVE' | 'COPY_DEV' | 'BANDWIDTH_BYTES';
export type CommitFlag = 'SHALLOW' | 'DELETE' | 'ACTIVE' | 'RELATIVE' | 'BANDWIDTH_BYTES';

export interface RebaseRequest extends StartRequest {
  /** '' for none. */
  readonly base: string;
  readonly flags: readonly Given<RebaseFlag>[];
  /** MiB/s, or bytes/s with BANDWIDTH_BYTES. */
  readonly bandwidth: bigint;
  readonly overcommit: boolean;
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
  /** Whether to answer as soon as the request is written down, instead of when the job has ended. */
  readonly returnImmediately: boolean;
  /** Whether to cancel the job even if QEMU would first have to drain or flush. */
  readonly force: boolean;
  readonly pauseGuest: Given<PauseGuest>;
  /** That the owner of the VM's configuration has recorded the path of the gate with this token. */
  readonly record?: { readonly token: string } | undefined;
  /** Whether to write the record down, and not to pivot. Undefined: false. */
  readonly recordOnly?: boolean;
  readonly requestId: string;
}

/** A request of Pause or Resume. */
export interface PauseRequest {
  readonly job: JobRef;
  readonly requestId: string;
}

export interface SetSpeedRequest extends PauseRequest {
  readonly bandwidthBytesPerSecond: bigint;
}

export interface ListDomainsRequest {
  /** '' for all. */
  readonly host: string;
  readonly pageSize: number;
  readonly pageToken: string;
}

export interface ListJobsRequest extends JobFilter {
  readonly states: readonly Given<Job['state']>[];
  readonly pageSize: number;
  readonly pageToken: string;
}

export interface ListLeftoversRequest {
  /** Name or UUID; '' for all. */
  readonly domain: string;
  readonly pageSize: number;
  readonly pageToken: string;
}

export interface ReclaimRequest {
  /** Ids of leftovers. */
  readonly ids: readonly string[];
  /** If false, nothing is removed, and the answer says what would be. */
  readonly apply: boolean;
  readonly requestId: string;
}

export type Operation = 'SAVE' | 'SNAPSHOT' | 'REVERT' | 'DETACH' | 'RESIZE' | 'MIGRATE';

export interface CheckOperationRequest {
  readonly domain: string;
  /** Undefined for all disks. */
  readonly disk: string | undefined;
  readonly operation: Given<Operation>;
}

export interface WatchRequest {
  readonly job: JobRef;
  /** Send every event after this revision. If undefined, begin with a SNAPSHOT. */
  readonly afterRevision: number | undefined;
  readonly progressIntervalMs: number | undefined;
}

export interface WatchJobsRequest extends WatchFilter {
  /** After what each host goes on; one that is not there begins with a snapshot. */
  readonly positions: Positions;
  readonly progressIntervalMs: number | undefined;
}
