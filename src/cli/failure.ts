/** The words for an error, with the next step, and the exit code for scripts. */
import type { BlockJobError, Reason } from '../client/index.ts';
import { EXIT, type ExitCode } from './exit.ts';

export interface FailureInWords {
  readonly lines: readonly string[];
  /** Commands, or a sentence; '' for none. */
  readonly next: string;
  readonly exitCode: ExitCode;
}

export function failureInWords(error: BlockJobError): FailureInWords {
  const next = nextAfter(error);
  const exitCode = exitCodeOf(error);
  const lines = [`error: ${error.reason === '' ? error.text : `${error.text} (${error.reason})`}`];
  if (error.violations.length > 1) lines.push(...error.violations.map(({ field, text }) => `  ${field}: ${text}`));
  if (error.mayHaveHappened) lines.push('The answer was lost: the request may have been carried out nevertheless.');
  if (next !== '') lines.push(`Next: ${next}`);
  return { lines, next, exitCode };
}

/** It is not known, or not certain, what happened. */
const UNKNOWN: ReadonlySet<string> = new Set(['BUG', 'JOB_LOST', 'NOT_ON_DISK']);

function exitCodeOf(error: BlockJobError): ExitCode {
  if (error.mayHaveHappened || UNKNOWN.has(error.reason)) return EXIT.unknown;
  return error.isAnswer && error.code !== 'UNAVAILABLE' ? EXIT.refused : EXIT.unreachable;
}

type Words = Readonly<Record<string, string>>;

/** Whether no blockjobd began the job. libvirt counts its own copy as failed if another client ends it. */
function isForeign(job: string): boolean {
  return !/^bj[0-9a-f]{16}$/.test(job);
}
const OF_ANOTHER = 'the job belongs to another client, for example libvirt or a backup tool: end it with that client';

type Split<Names extends string> = Names extends `${infer One} ${infer Rest}` ? One | Split<Rest> : Names;
/** The reasons whose texts already say what to do. */
type InText =
  | Split<'FLAG_REQUIRES_COPY FLAGS_EXCLUSIVE BASE_REQUIRED PATH_NOT_ABSOLUTE BANDWIDTH_OUT_OF_RANGE'>
  | Split<'GRANULARITY_INVALID BUFFER_INVALID NOT_A_BLOCK_DEVICE FIELD_INVALID RELATIVE_UNSUPPORTED'>
  | Split<'DESTINATION_IN_USE NBD_REFUSED STORAGE_FAILED DISK_EMPTY NOT_OWNER IMAGE_UNSUITABLE NAME_TOO_LONG'>
  | Split<'LOSS_NOT_ACCEPTED SECRET_NOT_FOUND SECRET_WRONG ENCRYPTION_MISMATCH HEADER_DIFFERS REUSED_UNLIKE'>
  | Split<'REUSED_DIFFERS VERIFY_BROKEN_OFF DESTINATION_MOVED GATEWAY_HEADER_INVALID DESTINATION_NOT_ALLOWED'>
  | Split<'ACCESS_DENIED LIMIT_REACHED TOO_MANY_WATCHERS TOO_MANY_WATCHES TOO_MANY_CALLS'>
  | Split<'DIRECTORY_UNREACHABLE TIME_LIMIT_REACHED VERSIONS_DIFFER'>
  | Split<'REVISION_UNKNOWN QEMU_TOO_OLD NOT_IMPLEMENTED REFUSED_BY_QEMU REASON_UNKNOWN'>
  // From a server of an older version.
  | Split<'QEMU_REFUSED BUG'>;

/** The next step for each reason. The error's own text says what is wrong. */
const NEXT: Readonly<Record<Exclude<Reason, 'UNSPECIFIED' | InText>, (words: Words) => string>> = {
  BASE_NOT_IN_CHAIN: () => 'blockjob disks DOMAIN shows the chain',
  DOMAIN_NOT_FOUND: () => 'blockjob domains',
  DISK_NOT_FOUND: ({ domain }) => `blockjob disks ${domain ?? 'DOMAIN'}`,
  JOB_NOT_FOUND: () => 'blockjob jobs',
  DISK_HAS_NO_JOB: () => 'blockjob jobs',
  DESTINATION_MISSING: ({ path }) => `qemu-img create -f FORMAT ${path ?? 'DEST'} SIZE, or omit --reuse-external`,
  DESTINATION_EXISTS: () => 'name a new file, or add --reuse-external (its contents are overwritten)',
  REQUEST_ID_REUSED: ({ job }) => `blockjob info ${job ?? 'JOB'}, or omit --request-id`,
  REQUEST_ID_IN_USE: () => 'omit --request-id, or give another one',
  BLOCK_COPY_ACTIVE: ({ job = '' }) =>
    isForeign(job) ? OF_ANOTHER : `blockjob watch ${job}, or blockjob abort ${job}`,
  BLOCK_JOB_ACTIVE: ({ job = '' }) => (isForeign(job) ? OF_ANOTHER : `blockjob watch ${job}`),
  START_UNDER_WAY: () => 'blockjob jobs --active, in a moment',
  CHAIN_BUSY: ({ job = '' }) => (isForeign(job) ? OF_ANOTHER : `blockjob watch ${job}`),
  JOB_NOT_READY: ({ job }) => `blockjob watch ${job ?? 'JOB'} --ready, then blockjob pivot ${job ?? 'JOB'}`,
  JOB_ENDING: ({ job }) => `blockjob watch ${job ?? 'JOB'}`,
  JOB_ENDED: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  PIVOT_UNSUPPORTED: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  SHALLOW_INTO_RAW: () => 'add --format qcow2, or omit --shallow',
  FORMAT_UNKNOWN: () => 'add --format raw or --format qcow2',
  CHAIN_UNUSABLE: () => 'correct the header that names it with qemu-img rebase -u, or name a new file',
  SIZE_MISMATCH: () => 'make the destination exactly as large as the disk: blockjob disks DOMAIN',
  EXPORT_SIZE_DIFFERS: () => 'make the export exactly as large as the disk: blockjob disks DOMAIN',
  DESTINATION_UNREACHABLE: () => 'check that the NBD server is running, and that the VM’s host can reach it',
  TLS_CREDENTIALS_UNUSABLE: () => 'add tls-creds-x509 with endpoint=client to the VM’s QEMU, or name another object',
  FILE_TOO_LARGE: () => 'name a place on a file system that supports larger files',
  OWNER_UNKNOWN: () => 'send the request to a gateway',
  OWNERSHIP_STALE: () => 'try again in a moment',
  GUEST_MIGRATING: () => 'blockjob domains shows where it runs; send the request there when the migration has ended',
  MANAGED_BY_LIBVIRT: () => 'virsh blockcopy, virsh blockpull or virsh blockcommit',
  PATH_DIFFERS_IN_QEMU: () => 'name a folder that is the same for QEMU and for this service',
  FILE_NOT_KNOWN: () => 'omit --delete',
  CALLER_NOT_ALLOWED: () => 'ask the administrator of the service’s policy',
  CALLER_UNKNOWN: () => 'give --ca, --cert and --key, or a --context that has them',
  NO_SPACE: () => 'free space at the destination, or name another place',
  GUEST_LIMIT_SHARED: () => 'omit --throttle-guest, or take the limit away',
  GUEST_FLOOR_TOO_HIGH: () => 'name a lower floor, or a faster destination',
  SPACE_LOW: () => 'free space at the destination, name another place, or say --overcommit',
  TOO_MANY_JOBS: () => 'blockjob jobs --active',
  QEMU_UNREACHABLE: () => 'check that the VM is running and that no other client holds its monitor: blockjob domains',
  HOST_UNREACHABLE: () => 'blockjob domains shows which hosts answer',
  DRAINING: () => 'try again in a moment',
  PATH_REPLACED: () => 'start again, in a folder where nobody else renames files',
  PLAN_CHANGED: () => 'blockjob plan with the same arguments',
  CONFIG_NOT_RECORDED: ({ job, token }) =>
    `write the path into the VM’s configuration, then blockjob pivot ${job ?? 'JOB'} --recorded ${token || 'TOKEN'}`,
  CONFIG_RECORD_STALE: ({ job }) => `blockjob info ${job ?? 'JOB'} shows the gate`,
  JOB_LOST: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  NOT_ON_DISK: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
};

function isKnown(reason: string): reason is keyof typeof NEXT {
  return Object.hasOwn(NEXT, reason);
}

function nextAfter(error: BlockJobError): string {
  if (error.mayHaveHappened) return 'blockjob jobs, before you repeat the request';
  const { reason } = error;
  if (error.isAnswer) return isKnown(reason) ? NEXT[reason](error.metadata) : '';
  if (error.code === 'UNIMPLEMENTED') return 'check the address: the server there is not blockjobd, or is an older one';
  return 'check that blockjobd is running there; --address, BLOCKJOB_ADDRESS or --context name another service';
}
