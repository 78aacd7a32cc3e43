/** What went wrong, in words with what to do next, and the exit code that says it to scripts. */
import type { BlockJobError } from '../client/index.ts';
import { EXIT, type ExitCode } from './exit.ts';

export interface Told {
  readonly lines: readonly string[];
  /** Commands, or sentences; '' for none. */
  readonly next: string;
  readonly exitCode: ExitCode;
}

export function failureInWords(error: BlockJobError): Told {
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
  return !/^bj[0-9a-f]{16}$/.test(job) && job !== 'that is being started';
}
const OF_ANOTHER = 'it is the job of another client, as libvirt or a backup: that one ends it';

/** What to do, by reason; the error's own text says what is wrong. */
export const NEXT: Readonly<Record<string, (words: Words) => string>> = {
  DOMAIN_NOT_FOUND: () => 'blockjob domains',
  DISK_NOT_FOUND: ({ domain }) => `blockjob disks ${domain ?? 'DOMAIN'}`,
  BASE_NOT_IN_CHAIN: () => 'blockjob disks DOMAIN shows the chain',
  JOB_NOT_FOUND: () => 'blockjob jobs',
  BLOCK_COPY_ACTIVE: ({ job = '' }) =>
    isForeign(job) ? OF_ANOTHER : `blockjob watch ${job}, or blockjob abort ${job}`,
  BLOCK_JOB_ACTIVE: ({ job = '' }) => (isForeign(job) ? OF_ANOTHER : `blockjob watch ${job}`),
  JOB_NOT_READY: ({ job }) => `blockjob watch ${job ?? 'JOB'} --ready, then blockjob pivot ${job ?? 'JOB'}`,
  JOB_ENDING: ({ job }) => `blockjob watch ${job ?? 'JOB'}`,
  JOB_ENDED: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  PIVOT_UNSUPPORTED: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  DESTINATION_EXISTS: () => 'name a new file, or add --reuse-external (its contents are overwritten)',
  DESTINATION_MISSING: ({ path }) => `qemu-img create -f FORMAT ${path ?? 'DEST'} SIZE, or leave --reuse-external out`,
  DESTINATION_UNREACHABLE: () => 'see that the NBD server runs, and is reached from the VM’s host',
  SHALLOW_INTO_RAW: () => 'add --format qcow2, or leave --shallow out',
  FORMAT_UNKNOWN: () => 'add --format raw or --format qcow2',
  SIZE_MISMATCH: () => 'make the destination exactly as large as the disk: blockjob disks DOMAIN',
  PATH_DIFFERS_IN_QEMU: () => 'name a folder that QEMU and this service see alike',
  PATH_REPLACED: () => 'start again, in a folder where nobody else renames things',
  FILE_NOT_KNOWN: () => 'leave --delete out',
  MANAGED_BY_LIBVIRT: () => 'virsh blockcopy, virsh blockpull or virsh blockcommit',
  GUEST_MIGRATING: () => 'blockjob domains says where it runs; ask there when the migration has ended',
  NO_SPACE: () => 'make room where the destination is, or name another place',
  NBD_REFUSED: ({ wayOut }) => wayOut ?? '',
  TLS_CREDENTIALS_UNUSABLE: () => 'add tls-creds-x509 with endpoint=client to the VM’s QEMU, or name another one',
  FILE_TOO_LARGE: () => 'name a place on a file system with longer files',
  TOO_MANY_JOBS: () => 'blockjob jobs --active',
  REQUEST_ID_REUSED: ({ job }) => `blockjob info ${job ?? 'JOB'}, or leave --request-id out`,
  PLAN_CHANGED: () => 'blockjob plan with the same arguments',
  JOB_LOST: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  NOT_ON_DISK: ({ job }) => `blockjob info ${job ?? 'JOB'}`,
  CALLER_UNKNOWN: () => 'give --ca, --cert and --key, or a --context that has them',
  CALLER_NOT_ALLOWED: () => 'ask who keeps the policy of this service',
  QEMU_UNREACHABLE: () => 'is the VM running, and does nothing else hold its monitor? blockjob domains',
  HOST_UNREACHABLE: () => 'blockjob domains says which hosts answer',
  DRAINING: () => 'try again in a moment',
};

function nextAfter(error: BlockJobError): string {
  if (error.mayHaveHappened) return 'blockjob jobs, before it is asked for again';
  if (error.isAnswer) return NEXT[error.reason]?.(error.metadata) ?? '';
  if (error.code === 'UNIMPLEMENTED') return 'what answers there is no blockjobd, or an older one';
  return 'is blockjobd running there? --address, BLOCKJOB_ADDRESS or --context name another service';
}
