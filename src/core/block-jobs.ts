/**
 * The interface in the middle: what this service does, in its own words. The agent of a host implements it, the
 * client of one that is elsewhere, and the fleet of all; one server exposes it. All its methods throw BlockJobError,
 * and nothing else on purpose.
 */
import type { Disk, Image } from './disk/chain.ts';
import type { Failure } from './errors.ts';
import type { ForeignJobs } from './foreign-job.ts';
import type { Rights } from './grant.ts';
import type { JobEvent } from './job/job-event.ts';
import type { JobView, PublicAccepted } from './job/job-view.ts';
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
  WatchRequest,
} from './requests.ts';

/** Who waits for an answer. A caller that leaves stops waiting; the work goes on. */
export interface Call {
  /** Aborted when the caller has gone or its deadline has passed. */
  readonly signal: AbortSignal;
  /** When the caller's patience ends, as performance.now() counts; undefined: it has not said. */
  readonly deadlineMs?: number | undefined;
  /** Who asks, where that is known: as its certificate says, or as a gateway has passed it on. */
  readonly caller?: string | undefined;
  /** Each of them has to allow what is done. Undefined: no policy says who may do what. */
  readonly rights?: readonly Rights[] | undefined;
  /** Told when the caller may operate what was found: what it asks for may be done from then on. */
  readonly onMayOperate?: () => void;
  /** At which epoch a gateway has heard that the domain is this host's. */
  readonly epoch?: bigint | undefined;
}

/** What a start would do, if it were asked for now. Its job has no name yet: another holds the place. */
export interface PlannedJob {
  /** Equal for equal plans. */
  readonly etag: string;
  readonly accepted: PublicAccepted;
  readonly steps: readonly PlannedStepInWords[];
  /** What people should know, a sentence each. */
  readonly notes: readonly string[];
}

/** A step, its QMP commands and file operations as people write them; '' for none. */
export interface PlannedStepInWords extends Pick<PlannedStep, 'name' | 'phase' | 'reason'> {
  readonly run: string;
  readonly undo: string;
}

/** With validate_only the plan, and nothing is changed. */
export type Started = JobView | PlannedJob;

/** Something that a job made and could not take back. */
export interface Leftover {
  /** The same as long as it exists. */
  readonly id: string;
  readonly kind: 'FILE' | 'NODE' | 'BITMAP' | 'QEMU_JOB';
  readonly host: string;
  readonly domain: string;
  /** The job that made it. */
  readonly jobId: string;
  /** A file's path, or the name in QEMU. */
  readonly name: string;
  readonly allocatedBytes: number;
  /** Why it is there, for people. */
  readonly text: string;
  /** Why it cannot be removed now; '' if it can. */
  readonly blockedBy: string;
  /** RFC 3339; undefined: not known. */
  readonly createTime: string | undefined;
}

export interface ReclaimResult {
  readonly id: string;
  /** Undefined: it is gone already. */
  readonly leftover: Leftover | undefined;
  /** Undefined: it was removed, or would be. */
  readonly failure: Failure | undefined;
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

type PublicImage = Omit<
  Image,
  'clusterSizeBytes' | 'extendedL2' | 'layers' | 'filters' | 'isPart' | 'dataFile' | 'snapshots' | 'bitmaps'
> & {
  readonly bitmaps: readonly { readonly name: string }[];
};

export interface DomainDisk {
  /** Each `Disk` is one. */
  readonly disk: Pick<Disk, 'id' | 'backend'> & { readonly chain: readonly PublicImage[] };
  /** The device's QOM type, as virtio-blk-pci; undefined where QEMU does not tell. */
  readonly deviceType: string | undefined;
  readonly activeJob: JobView | undefined;
}

/** One page of a list. */
export interface Page<Item> {
  readonly items: readonly Item[];
  /** '' for the last page. */
  readonly nextPageToken: string;
  /** Hosts that did not answer: what they have is missing. Always empty on a single host. */
  readonly unreachableHosts: readonly string[];
}

/** The first page has the foreign jobs, and no other. */
export interface JobsPage extends Page<JobView>, ForeignJobs {}

export interface BlockJobs {
  /** Answers when QEMU has accepted the job; a start that is refused changes nothing. */
  startCopy(request: CopyRequest, call: Call): Promise<Started>;
  /** As startCopy: a pull, or with COPY a copy. */
  rebase(request: RebaseRequest, call: Call): Promise<Started>;
  /** As startCopy. */
  commit(request: CommitRequest, call: Call): Promise<Started>;
  getInfo(job: JobRef, call: Call): Promise<JobView>;
  /** Newest first. */
  listJobs(request: ListJobsRequest, call: Call): Promise<JobsPage>;
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
  /** Oldest first. */
  listLeftovers(request: ListLeftoversRequest, call: Call): Promise<Page<Leftover>>;
  /** May be repeated: what is gone counts as removed. */
  reclaim(request: ReclaimRequest, call: Call): Promise<readonly ReclaimResult[]>;
  /** By name. */
  listDomains(request: ListDomainsRequest, call: Call): Promise<Page<Domain>>;
  getDomain(domain: string, call: Call): Promise<{ domain: Domain; disks: readonly DomainDisk[] }>;
}

/** What each call is asked for. */
export type Requests = { readonly [Rpc in keyof BlockJobs]: Parameters<BlockJobs[Rpc]>[0] };
