/**
 * The contract as a table with one row for each call: its object, the right that it needs, the check of its request,
 * and the reasons with which it can fail, beside the reasons of every call and of every write. Serving, auditing,
 * guarding and routing go by this table; the comments of proto/ are compared with it.
 */
import type { BlockJobs, Call, Requests, Started } from './block-jobs.ts';
import type { Right } from './grant.ts';
import type { JobView } from './job/job-view.ts';
import { checkAbort, checkPause, checkReclaim, parseSetSpeed } from './rules/change.ts';
import { parseCheckOperation } from './rules/check-operation.ts';
import { parseCommit } from './rules/commit.ts';
import { parseWatchJobs, progressIntervalMs, stateFilter } from './rules/list.ts';
import { parseRebase } from './rules/rebase.ts';
import { parseStartCopy } from './rules/start-copy.ts';

interface Row<Request> {
  /** As in the contract. */
  readonly rpc: string;
  readonly about: 'disk' | 'job' | 'domain' | 'all';
  /** Whether the call changes something. Calls that do are written into the audit log. */
  readonly right: Right;
  /** Throws all violations of the request. */
  readonly check: (request: Request) => unknown;
  /** Reasons of the catalogue. */
  readonly fails: string;
}
type Rows = { readonly [Rpc in keyof Requests]: Row<Requests[Rpc]> };

const anything = () => undefined;

const FINDS = 'DOMAIN_NOT_FOUND DISK_NOT_FOUND JOB_NOT_FOUND DISK_HAS_NO_JOB';
const PIVOTS = `JOB_NOT_READY PIVOT_UNSUPPORTED GUEST_MIGRATING DESTINATION_MOVED CONFIG_NOT_RECORDED
  CONFIG_RECORD_STALE SPACE_LOW`;
const CHANGES = `${FINDS} JOB_ENDING JOB_ENDED`;
const CHECKS = 'DOMAIN_NOT_FOUND DISK_NOT_FOUND QEMU_UNREACHABLE';
const SHOWS = 'DOMAIN_NOT_FOUND QEMU_UNREACHABLE';
const INFORMS = `${FINDS} QEMU_UNREACHABLE`;
const WATCHES = `${INFORMS} REVISION_UNKNOWN TOO_MANY_WATCHERS`;
const LIMITS = `${CHANGES} BANDWIDTH_OUT_OF_RANGE`;
const ENDS = `${CHANGES} ${PIVOTS} FLAGS_EXCLUSIVE`;
const STARTS = `BANDWIDTH_OUT_OF_RANGE DOMAIN_NOT_FOUND DISK_NOT_FOUND BLOCK_COPY_ACTIVE BLOCK_JOB_ACTIVE
  START_UNDER_WAY RELATIVE_UNSUPPORTED FORMAT_UNKNOWN DESTINATION_IN_USE DISK_EMPTY GUEST_MIGRATING ACCESS_DENIED
  NO_SPACE TOO_MANY_JOBS QEMU_TOO_OLD PLAN_CHANGED PATH_DIFFERS_IN_QEMU IMAGE_UNSUITABLE NAME_TOO_LONG
  MANAGED_BY_LIBVIRT LOSS_NOT_ACCEPTED HEADER_DIFFERS STORAGE_FAILED LIMIT_REACHED`;
const COPIES = `${STARTS} PATH_NOT_ABSOLUTE GRANULARITY_INVALID BUFFER_INVALID NOT_A_BLOCK_DEVICE
  DESTINATION_MISSING DESTINATION_EXISTS SHALLOW_INTO_RAW CHAIN_UNUSABLE SIZE_MISMATCH EXPORT_SIZE_DIFFERS
  DESTINATION_UNREACHABLE DESTINATION_NOT_ALLOWED PATH_REPLACED SECRET_NOT_FOUND SECRET_WRONG ENCRYPTION_MISMATCH
  REUSED_UNLIKE REUSED_DIFFERS VERIFY_BROKEN_OFF TLS_CREDENTIALS_UNUSABLE NBD_REFUSED FILE_TOO_LARGE SPACE_LOW
  GUEST_LIMIT_SHARED`;
const COMMITS = `${STARTS} BASE_NOT_IN_CHAIN FILE_NOT_KNOWN`;
const REBASES = `${COPIES} FLAG_REQUIRES_COPY BASE_REQUIRED BASE_NOT_IN_CHAIN`;

const TABLE = {
  startCopy: { rpc: 'StartCopy', about: 'disk', right: 'operate', check: parseStartCopy, fails: COPIES },
  rebase: { rpc: 'Rebase', about: 'disk', right: 'operate', check: parseRebase, fails: REBASES },
  commit: { rpc: 'Commit', about: 'disk', right: 'operate', check: parseCommit, fails: COMMITS },
  abort: { rpc: 'Abort', about: 'job', right: 'operate', check: checkAbort, fails: ENDS },
  setSpeed: { rpc: 'SetSpeed', about: 'job', right: 'operate', check: parseSetSpeed, fails: LIMITS },
  pause: { rpc: 'Pause', about: 'job', right: 'operate', check: checkPause, fails: CHANGES },
  resume: { rpc: 'Resume', about: 'job', right: 'operate', check: checkPause, fails: CHANGES },
  reclaim: { rpc: 'Reclaim', about: 'all', right: 'operate', check: checkReclaim, fails: '' },
  getInfo: { rpc: 'GetInfo', about: 'job', right: 'read', check: anything, fails: INFORMS },
  watch: { rpc: 'WatchJob', about: 'job', right: 'read', check: progressIntervalMs, fails: WATCHES },
  watchJobs: { rpc: 'WatchJobs', about: 'all', right: 'read', check: parseWatchJobs, fails: 'TOO_MANY_WATCHES' },
  checkOperation: { rpc: 'CheckOperation', about: 'domain', right: 'read', check: parseCheckOperation, fails: CHECKS },
  getDomain: { rpc: 'GetDomain', about: 'domain', right: 'read', check: anything, fails: SHOWS },
  listJobs: { rpc: 'ListJobs', about: 'all', right: 'read', check: stateFilter, fails: 'DOMAIN_NOT_FOUND' },
  listLeftovers: { rpc: 'ListLeftovers', about: 'all', right: 'read', check: anything, fails: '' },
  listDomains: { rpc: 'ListDomains', about: 'all', right: 'read', check: anything, fails: '' },
} as const satisfies Rows;

/** The request type of each call. */
export const CALLS: Rows = TABLE;

/** The calls whose row has this value. */
type With<Has> = { [Rpc in keyof Rows]: (typeof TABLE)[Rpc] extends Has ? Rpc : never }[keyof Rows];
export type Operating = With<{ readonly right: 'operate' }>;
export type Reading = With<{ readonly right: 'read' }>;

type Calls<Rpc extends keyof BlockJobs, Answer> = {
  readonly [One in Rpc]: (request: Requests[One], call: Call) => Promise<Answer>;
};
/** The calls that start a job on a disk, and the calls that change a job. */
export type Starting = Calls<With<{ readonly about: 'disk' }>, Started>;
export type Changing = Calls<With<{ readonly about: 'job'; readonly right: 'operate' }>, JobView>;

/** For code that does the same with each call of a kind, so that a new call is routed and guarded as the others. */
export abstract class ByKind implements Starting, Changing {
  readonly startCopy = this.starting('startCopy');
  readonly rebase = this.starting('rebase');
  readonly commit = this.starting('commit');
  readonly abort = this.changing('abort');
  readonly setSpeed = this.changing('setSpeed');
  readonly pause = this.changing('pause');
  readonly resume = this.changing('resume');

  protected abstract starting<Rpc extends keyof Starting>(
    rpc: Rpc,
  ): (request: Requests[Rpc], call: Call) => Promise<Started>;
  protected abstract changing<Rpc extends keyof Changing>(
    rpc: Rpc,
  ): (request: Requests[Rpc], call: Call) => Promise<JobView>;
}
