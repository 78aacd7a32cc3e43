/**
 * The central interface: the operations of this service in its own words. The agent of a host implements it, so does
 * the client of a remote service, and so does the fleet for all hosts; one server exposes it. Its methods throw
 * BlockJobError, and nothing else on purpose.
 */
import type { Disk, Image } from './disk/chain.ts';
import type { Failure } from './errors.ts';
import type { ForeignJobs } from './foreign-job.ts';
import type { Rights } from './grant.ts';
import type { JobEvent } from './job/job-event.ts';
import type { JobView, PublicAccepted } from './job/job-view.ts';
import type { JobsMessage } from './jobs-message.ts';
import type { PlannedStep } from './plans/preview.ts';
import type {
  AbortRequest,
  CheckOperationRequest,
  CommitRequest,
  CopyRequest,
  JobRef,
  ListDomainsRequest,
  ListJobsRequest,
  ListLeftoversRequest,
  PauseRequest,
  RebaseRequest,
  ReclaimRequest,
  SetSpeedRequest,
  WatchJobsRequest,
  WatchRequest,
} from './requests.ts';

/** The caller of a method, which waits for the answer. A caller that leaves stops waiting; the work continues. */
export interface Call {
  /** Aborted when the caller has left or its deadline has passed. */
  readonly signal: AbortSignal;
  /** The caller's deadline on the clock of performance.now(); undefined if it has none. */
  readonly deadlineMs?: number | undefined;
  /** The name of the caller, if it is known: from its certificate, or as a gateway has passed it on. */
  readonly caller?: string | undefined;
  /** Each of these policies has to allow the access. Undefined if there is no policy. */
  readonly rights?: readonly Rights[] | undefined;
  /** Called when the caller may operate the object that was found: from then on its request may take effect. */
  readonly onMayOperate?: () => void;
  /** The epoch at which a gateway has heard that this host owns the domain. */
  readonly epoch?: bigint | undefined;
}

/** The effect of a start, if it were requested now. The job has no id yet; a placeholder stands for it. */
export interface PlannedJob {
  /** Equal for equal plans. */
  readonly etag: string;
  readonly accepted: PublicAccepted;
  readonly steps: readonly PlannedStepInWords[];
  /** Notes for people, one sentence each. */
  readonly notes: readonly string[];
}

/** A step, with its QMP commands and file operations in the form that people write; '' for none. */
export interface PlannedStepInWords extends Pick<PlannedStep, 'name' | 'phase' | 'reason'> {
  readonly run: string;
  readonly undo: string;
}

/** The plan if validate_only was set; then nothing is changed. */
export type Started = JobView | PlannedJob;

/** An object that a job made and could not remove. */
export interface Leftover {
  /** Stays the same as long as the object exists. */
  readonly id: string;
  readonly kind: 'FILE' | 'NODE' | 'QEMU_JOB' | 'THROTTLE';
  readonly host: string;
  readonly domain: string;
  /** The job that made it. */
  readonly jobId: string;
  /** The path of a file, or the name in QEMU. */
  readonly name: string;
  readonly allocatedBytes: number;
  /** Why it exists, for people. */
  readonly text: string;
  /** Why it cannot be removed now; '' if it can. */
  readonly blockedBy: string;
  /** RFC 3339; undefined if it is not known. */
  readonly createTime: string | undefined;
}

/** Whether an operation may be done: if there is no reason against it. */
export interface Checked {
  readonly reasons: readonly Failure[];
  /** Those of ours that are among the reasons. */
  readonly blocking: readonly JobView[];
}

export interface ReclaimResult {
  readonly id: string;
  /** Undefined if it is already gone. */
  readonly leftover: Leftover | undefined;
  /** Undefined if it was removed, or would be. */
  readonly failure: Failure | undefined;
}

export type GuestState = 'RUNNING' | 'PAUSED' | 'IO_ERROR' | 'MIGRATING' | 'SHUT_OFF';

export interface Domain {
  readonly name: string;
  readonly uuid: string | undefined;
  readonly host: string;
  /** Whether QMP reaches it now, or why not. */
  readonly connection:
    | {
        readonly up: true;
        readonly qemuVersion: string;
        /** Undefined if /proc does not show it. */
        readonly qemuPid: number | undefined;
        readonly guestState: GuestState | undefined;
      }
    | { readonly up: false; readonly why: Failure };
}

type PublicImage = Omit<
  Image,
  'clusterSizeBytes' | 'extendedL2' | 'layers' | 'filters' | 'isPart' | 'dataFile' | 'snapshots' | 'bitmaps'
> & {
  readonly bitmaps: readonly { readonly name: string }[];
};

export interface DomainDisk {
  /** Each `Disk` is one. */
  readonly disk: Pick<Disk, 'id' | 'backend'> & { readonly chain: readonly PublicImage[] };
  /** The QOM type of the device, for example virtio-blk-pci; undefined if QEMU does not report it. */
  readonly deviceType: string | undefined;
  readonly activeJob: JobView | undefined;
}

/** One page of a list. */
export interface Page<Item> {
  readonly items: readonly Item[];
  /** '' for the last page. */
  readonly nextPageToken: string;
  /** Hosts that did not answer, so that their items are missing. Always empty on a single host. */
  readonly unreachableHosts: readonly string[];
}

/** Only the first page has the foreign jobs. */
export interface JobsPage extends Page<JobView>, ForeignJobs {}

export interface BlockJobs {
  /** Answers when QEMU has accepted the job. A refused start changes nothing. */
  startCopy(request: CopyRequest, call: Call): Promise<Started>;
  /** As startCopy: a pull, or a copy if COPY is set. */
  rebase(request: RebaseRequest, call: Call): Promise<Started>;
  /** As startCopy. */
  commit(request: CommitRequest, call: Call): Promise<Started>;
  getInfo(job: JobRef, call: Call): Promise<JobView>;
  /** Newest first. */
  listJobs(request: ListJobsRequest, call: Call): Promise<JobsPage>;
  abort(request: AbortRequest, call: Call): Promise<JobView>;
  /** Answers when QEMU has taken the limit; 0 for no limit. */
  setSpeed(request: SetSpeedRequest, call: Call): Promise<JobView>;
  /** Answers when QEMU has paused the job. The guest continues, and its writes add to the remaining bytes. */
  pause(request: PauseRequest, call: Call): Promise<JobView>;
  /** Also resumes a job that was paused because space ran out; without space it is paused again at once. */
  resume(request: PauseRequest, call: Call): Promise<JobView>;
  /** Ends after the event that ends the job. Leaving it never touches the job. */
  watch(request: WatchRequest, call: Call): AsyncIterable<JobEvent>;
  /** The events of all jobs, including jobs that begin meanwhile. Never ends by itself. */
  watchJobs(request: WatchJobsRequest, call: Call): AsyncIterable<JobsMessage>;
  /** Whether an operation is allowed now. It does not reserve anything. */
  checkOperation(request: CheckOperationRequest, call: Call): Promise<Checked>;
  /** Oldest first. */
  listLeftovers(request: ListLeftoversRequest, call: Call): Promise<Page<Leftover>>;
  /** May be repeated: an object that is already gone counts as removed. */
  reclaim(request: ReclaimRequest, call: Call): Promise<readonly ReclaimResult[]>;
  /** By name. */
  listDomains(request: ListDomainsRequest, call: Call): Promise<Page<Domain>>;
  getDomain(domain: string, call: Call): Promise<{ domain: Domain; disks: readonly DomainDisk[] }>;
}

/** The request types. */
export type Requests = { readonly [Rpc in keyof BlockJobs]: Parameters<BlockJobs[Rpc]>[0] };
