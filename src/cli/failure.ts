/** What went wrong, in words with what to do next, and the exit code that says it to scripts. */
import type { BlockJobError, Reason } from '../client/index.ts';
import { EXIT, type ExitCode } from './exit.ts';

export interface FailureInWords {
  readonly lines: readonly string[];
  /** Commands, or sentences; '' for none. */
  readonly next: string;
  readonly exitCode: ExitCode;
}

export function failureInWords(error: BlockJobError): FailureInWords {
  const next = nextAfter(error);
  const exitCode = exitCodeOf(error);
  const lines = [`error: ${error.reason === '' ? error.text : `${error.text} (${error.reason})`}`];
  if (error.violations.length > 1) lines.push(...error.violations.map(({ field, text }) => `  ${field}: ${text}`));
  if (error.mayHaveHappened) lines.push('An answer was lost: what was asked for may have been done all the same.');
  if (next !== '') lines.push(`Next: ${next}`);
  return { lines, next, exitCode };
}

/** Nobody knows what has happened, or not for certain. */
const UNKNOWN: ReadonlySet<string> = new Set(['BUG', 'JOB_LOST', 'NOT_ON_DISK']);

function exitCodeOf(error: BlockJobError): ExitCode {
  if (error.mayHaveHappened || UNKNOWN.has(error.reason)) return EXIT.unknown;
  return error.isAnswer && error.code !== 'UNAVAILABLE' ? EXIT.refused : EXIT.unreachable;
}

type Words = Readonly<Record<string, string>>;

/** QEMU has it, and no blockjobd began it. A copy of libvirt's that another client ends, libvirt takes for broken off. */
function isForeign(job: string): boolean {
  return !/^bj[0-9a-f]{16}$/.test(job);
}
const OF_ANOTHER = 'it is the job of another client, as libvirt or a backup: that one ends it';

type Split<Names extends string> = Names extends `${infer One} ${infer Rest}` ? One | Split<Rest> : Names;
/** Whose texts say what to do. */
type InText =
  | Split<'FLAG_REQUIRES_COPY FLAGS_EXCLUSIVE BASE_REQUIRED PATH_NOT_ABSOLUTE BANDWIDTH_OUT_OF_RANGE'>
  | Split<'GRANULARITY_INVALID BUFFER_INVALID NOT_A_BLOCK_DEVICE FIELD_INVALID RELATIVE_UNSUPPORTED'>
  | Split<'DESTINATION_IN_USE NBD_REFUSED STORAGE_FAILED DISK_EMPTY NOT_OWNER IMAGE_UNSUITABLE NAME_TOO_LONG'>
  | Split<'LOSS_NOT_ACCEPTED SECRET_NOT_FOUND SECRET_WRONG ENCRYPTION_MISMATCH HEADER_DIFFERS REUSED_UNLIKE'>
  | Split<'REUSED_DIFFERS VERIFY_BROKEN_OFF DESTINATION_MOVED GATEWAY_HEADER_INVALID DESTINATION_NOT_ALLOWED'>
  | Split<'ACCESS_DENIED LIMIT_REACHED TOO_MANY_WATCHERS TOO_MANY_CALLS DIRECTORY_UNREACHABLE TIME_LIMIT_REACHED'>
  | Split<'REVISION_UNKNOWN QEMU_TOO_OLD NOT_IMPLEMENTED REFUSED_BY_QEMU REASON_UNKNOWN'>
  // Of a server of an older version.
  | Split<'QEMU_REFUSED BUG'>;

/** What to do, by reason; the error's own text says what is wrong. */
const NEXT: Readonly<Record<Exclude<Reason, 'UNSPECIFIED' | InText>, (words: Words) => string>> = {
  BASE_NOT_IN_CHAIN: () => 'blockjob disks DOMAIN shows the chain',
  DOMAIN_NOT_FOUND: () => 'blockjob domains',
  DISK_NOT_FOUND: ({ domain }) => `blockjob disks ${domain ?? 'DOMAIN'}`,
  JOB_NOT_FOUND: () => 'blockjob jobs',
  DISK_HAS_NO_JOB: () => 'blockjob jobs',
  DESTINATION_MISSING: ({ path }) => `qemu-img create -f FORMAT ${path ?? 'DEST'} SIZE, or leave --reuse-external out`,
  DESTINATION_EXISTS: () => 'name a new file, or add --reuse-external (its contents are overwritten)',
  REQUEST_ID_REUSED: ({ job }) => `blockjob info ${job ?? 'JOB'}, or leave --request-id out`,
  REQUEST_ID_IN_USE: () => 'leave --request-id out, or give another one',
  BLOCK_COPY_ACTIVE: ({ job = '' }) =>
    isForeign(job) ? OF_ANOTHER : `blockjob watch ${job}, or blockjob abort ${job}`,
  BLOCK_JOB_ACTIVE: ({ job = '' }) => (isForeign(job) ? OF_ANOTHER : `blockjob watch ${job}`),
  START_UNDER_WAY: () => 'blockjob jobs --active, in a moment',
  CHAIN_BUSY: ({ job = '' }) => (isForeign(job) ? OF_ANOTHER : `blockjob watch ${job}`),
  JOB_NOT_READY: ({ job }) => `blockjob watch ${job ?? 'JOB'} --ready, then blockjob pivot ${job ?? 'JOB'}`,
  JOB_ENDING: ({ job }) => `blockjob watch ${job ?? 'JOB'}`,
  JOB_ENDED: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  PIVOT_UNSUPPORTED: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  SHALLOW_INTO_RAW: () => 'add --format qcow2, or leave --shallow out',
  FORMAT_UNKNOWN: () => 'add --format raw or --format qcow2',
  CHAIN_UNUSABLE: () => 'qemu-img rebase -u mends the header that names it; or name a new file',
  SIZE_MISMATCH: () => 'make the destination exactly as large as the disk: blockjob disks DOMAIN',
  EXPORT_SIZE_DIFFERS: () => 'make the export exactly as large as the disk: blockjob disks DOMAIN',
  DESTINATION_UNREACHABLE: () => 'see that the NBD server runs, and is reached from the VM’s host',
  TLS_CREDENTIALS_UNUSABLE: () => 'add tls-creds-x509 with endpoint=client to the VM’s QEMU, or name another one',
  FILE_TOO_LARGE: () => 'name a place on a file system with longer files',
  OWNER_UNKNOWN: () => 'ask a gateway',
  OWNERSHIP_STALE: () => 'try again in a moment',
  GUEST_MIGRATING: () => 'blockjob domains says where it runs; ask there when the migration has ended',
  MANAGED_BY_LIBVIRT: () => 'virsh blockcopy, virsh blockpull or virsh blockcommit',
  PATH_DIFFERS_IN_QEMU: () => 'name a folder that QEMU and this service see alike',
  FILE_NOT_KNOWN: () => 'leave --delete out',
  CALLER_NOT_ALLOWED: () => 'ask who keeps the policy of this service',
  CALLER_UNKNOWN: () => 'give --ca, --cert and --key, or a --context that has them',
  NO_SPACE: () => 'make room where the destination is, or name another place',
  TOO_MANY_JOBS: () => 'blockjob jobs --active',
  QEMU_UNREACHABLE: () => 'is the VM running, and does nothing else hold its monitor? blockjob domains',
  HOST_UNREACHABLE: () => 'blockjob domains says which hosts answer',
  DRAINING: () => 'try again in a moment',
  PATH_REPLACED: () => 'start again, in a folder where nobody else renames things',
  PLAN_CHANGED: () => 'blockjob plan with the same arguments',
  JOB_LOST: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  NOT_ON_DISK: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
};

function isKnown(reason: string): reason is keyof typeof NEXT {
  return Object.hasOwn(NEXT, reason);
}

function nextAfter(error: BlockJobError): string {
  if (error.mayHaveHappened) return 'blockjob jobs, before it is asked for again';
  const { reason } = error;
  if (error.isAnswer) return isKnown(reason) ? NEXT[reason](error.metadata) : '';
  if (error.code === 'UNIMPLEMENTED') return 'what answers there is no blockjobd, or an older one';
  return 'is blockjobd running there? --address, BLOCKJOB_ADDRESS or --context name another service';
}
