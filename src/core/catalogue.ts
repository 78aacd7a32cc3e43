/**
 * Every reason for which this service says no, in one catalogue: reason → gRPC code → text → libvirt's name
 * for the same thing. What varies in a text are its `{data}`: identifiers, numbers and paths, which travel in the error's
 * metadata, so that a program never has to read the text; and its `<sentences>`, which are for people, and only there. A
 * text says what is wrong and what to do about it.
 */

export type CatalogueCode =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'FAILED_PRECONDITION'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAVAILABLE'
  | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED'
  | 'ABORTED'
  | 'DEADLINE_EXCEEDED'
  | 'INTERNAL';

interface CatalogueEntry {
  readonly code: CatalogueCode;
  /** libvirt's error for the same condition; '-' where libvirt has none. */
  readonly libvirt: string;
  readonly text: string;
}

export const catalogue = {
  FLAG_REQUIRES_COPY: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: 'flag {flag} is for a copy only: add COPY, or leave {flag} out',
  },
  FLAGS_EXCLUSIVE: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: '{first} and {second} exclude each other: leave one out',
  },
  BASE_REQUIRED: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: '{field} must be given: <why>',
  },
  BASE_NOT_IN_CHAIN: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: '{image} is <what> of disk {disk}; GetDomain shows the chain',
  },
  PATH_NOT_ABSOLUTE: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: '{field} must be an absolute path, not "{path}"',
  },
  BANDWIDTH_OUT_OF_RANGE: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_OVERFLOW',
    text: '{field} is {value}; the range is 0 (no limit) to {maximum}',
  },
  GRANULARITY_INVALID: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: 'granularity_bytes is {value}; it must be 0 (chosen by QEMU) or a power of two from 512 to 67108864',
  },
  BUFFER_INVALID: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'buffer_bytes is {value}; the range is 0 (the default, 16 MiB, to which less is raised) to {maximum}',
  },
  NOT_A_BLOCK_DEVICE: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: 'destination {path} is not a block device; name a block device, or use a file destination',
  },
  FIELD_INVALID: {
    code: 'INVALID_ARGUMENT',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: '{field}: <problem>',
  },
  DOMAIN_NOT_FOUND: {
    code: 'NOT_FOUND',
    libvirt: 'VIR_ERR_NO_DOMAIN',
    text: 'no domain has the name or UUID "{domain}"; ListDomains shows those that this service knows',
  },
  DISK_NOT_FOUND: {
    code: 'NOT_FOUND',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: 'domain {domain} has no single disk that "{disk}" names; GetDomain shows its disks',
  },
  JOB_NOT_FOUND: {
    code: 'NOT_FOUND',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: 'no job {job}; ListJobs shows active and ended ones',
  },
  DISK_HAS_NO_JOB: {
    code: 'NOT_FOUND',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: 'disk {disk} of domain {domain} has had no job; ListJobs shows active and ended ones',
  },
  DESTINATION_MISSING: {
    code: 'NOT_FOUND',
    libvirt: 'VIR_ERR_SYSTEM_ERROR',
    text: '{path} does not exist; create it first',
  },
  DESTINATION_EXISTS: {
    code: 'ALREADY_EXISTS',
    libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
    text: 'destination {path} exists already and is left alone; name a new file, or ask for its reuse',
  },
  REQUEST_ID_REUSED: {
    code: 'ALREADY_EXISTS',
    libvirt: '-',
    text: 'request_id {requestId} was used for another request (job {job}); use a new one',
  },
  REQUEST_ID_IN_USE: {
    code: 'ALREADY_EXISTS',
    libvirt: '-',
    text: 'request_id {requestId} is that of another request, which is under way; use a new one',
  },
  BLOCK_COPY_ACTIVE: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_BLOCK_COPY_ACTIVE',
    text: 'job {job} is copying disk {disk} of domain {domain}; wait for its end, or abort it first',
  },
  BLOCK_JOB_ACTIVE: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_OPERATION_UNSUPPORTED',
    text: 'block job {job} runs on disk {disk} of domain {domain}; wait for its end first',
  },
  START_UNDER_WAY: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_OPERATION_UNSUPPORTED',
    text: 'another job is being started on disk {disk} of domain {domain}; wait for its end first',
  },
  CHAIN_BUSY: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_OPERATION_INVALID',
    text: 'block job {job} runs on an image of domain {domain} that is below the active one of its disk; wait for its end first',
  },
  JOB_NOT_READY: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_BLOCK_COPY_ACTIVE',
    text: 'job {job} is {state}, and can pivot only when READY; watch it until then. The job goes on',
  },
  JOB_ENDING: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_OPERATION_INVALID',
    text: 'job {job} is {state}: it is being ended already; watch it for the result',
  },
  JOB_ENDED: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_INVALID_ARG',
    text: 'job {job} has ended: {state}',
  },
  PIVOT_UNSUPPORTED: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_BLOCK_COPY_ACTIVE',
    text: 'job {job} is a {kind} and has nothing to pivot to',
  },
  SHALLOW_INTO_RAW: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
    text: 'a shallow copy of disk {disk} needs a format with backing files; raw has none',
  },
  RELATIVE_UNSUPPORTED: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_ARGUMENT_UNSUPPORTED',
    text: 'a relative backing file name makes no sense here: <why>',
  },
  FORMAT_UNKNOWN: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
    text: '{path} is in a format that cannot be used here: {format}: <why>',
  },
  CHAIN_UNUSABLE: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: '{path} cannot be used in the chain of the destination: <why>; mend the header that names it, or make the destination anew',
  },
  SIZE_MISMATCH: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'destination {path} has {destinationBytes} bytes, the disk {sourceBytes}; they must be equal',
  },
  EXPORT_SIZE_DIFFERS: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'destination {path} has not as many bytes as the disk; they must be equal',
  },
  DESTINATION_IN_USE: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'destination {path} is in use: <by>',
  },
  DESTINATION_UNREACHABLE: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'the NBD server of {path} is not reached: <why>',
  },
  TLS_CREDENTIALS_UNUSABLE: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'the QEMU of domain {domain} cannot use the TLS credentials that were named for {path}: <why>; add tls-creds-x509 with endpoint=client to it, or name another one',
  },
  NBD_REFUSED: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'the NBD server of {path} is there, and QEMU does not get the export: <why>; <wayOut>',
  },
  STORAGE_FAILED: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_SYSTEM_ERROR',
    text: 'storage failed: <doing>: <why>; <wayOut>',
  },
  FILE_TOO_LARGE: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_SYSTEM_ERROR',
    text: '{path} may not become as long as it has to: <why>; its file system, or a limit of a process (RLIMIT_FSIZE), has no longer files, whatever room there is',
  },
  DISK_EMPTY: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
    text: 'disk {disk} of domain {domain} has no medium',
  },
  NOT_OWNER: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'host {host} is not the owner of domain {domain}; ask {owner}',
  },
  OWNER_UNKNOWN: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'host {host} is not the owner of domain {domain}, as far as the directory tells; ask a gateway',
  },
  OWNERSHIP_STALE: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'host {host} is asked for domain {domain} by a gateway that has not heard of the last change of its owner; ask again',
  },
  GUEST_MIGRATING: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_OPERATION_INVALID',
    text: 'the guest of domain {domain} migrates, or has migrated away (QEMU: {status}), and its disks stay as they are here; ask again where it runs, when the migration has ended',
  },
  MANAGED_BY_LIBVIRT: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'libvirt manages domain {domain} (its QEMU has <sign>), and <why>; let libvirt do it, as by virsh blockcopy',
  },
  PATH_DIFFERS_IN_QEMU: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: '{path} is not the same file for the QEMU of domain {domain} as for this service (containers, chroots, PrivateTmp); name one that both see alike',
  },
  FILE_NOT_KNOWN: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: '{path} is not proved to be the file that the QEMU of domain {domain} has open: it was renamed or replaced; leave its deletion out',
  },
  IMAGE_UNSUITABLE: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: '{path} (node {node}) <what>, and cannot <use>: <why>; <wayOut>',
  },
  NAME_TOO_LONG: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'the name {name} has {bytes} bytes, and the header of {path} has room for {maximum}; use relative names or shorter paths',
  },
  LOSS_NOT_ACCEPTED: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: '{path} (node {node}) <what>: <why>; <wayOut>, or accept {accept}',
  },
  SECRET_NOT_FOUND: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_NO_SECRET',
    text: 'the QEMU of domain {domain} has no secret {secretId} (<why>); add the object to it, or name another one',
  },
  SECRET_WRONG: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'the key of the secret that was named does not open {path}; name the one that has its key',
  },
  ENCRYPTION_MISMATCH: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
    text: 'destination {path} <what>; <wayOut>',
  },
  HEADER_DIFFERS: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'the header of {path} (node {node}) says <says>, and QEMU has <has> below it: who opens the disk by its headers finds another disk; copy the whole disk instead, or have the header say what the guest has (qemu-img rebase -u, while the VM is off)',
  },
  REUSED_UNLIKE: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'destination {path} does not show what {backing} shows, as a shallow copy into it needs: <why>; make it anew, have it compared (verify_reused), or copy the whole disk',
  },
  REUSED_DIFFERS: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'destination {path} does not show what {backing} shows, as a shallow copy into it needs: they differ first in the sector at byte {offset}; make it anew, or copy the whole disk',
  },
  VERIFY_BROKEN_OFF: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'the comparison of {path} was broken off: <why>; nothing was copied. Start again',
  },
  DESTINATION_MOVED: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: '{path} is no longer the file that QEMU has open: it was removed, renamed or replaced; give that file its name back, or abort the job',
  },
  GATEWAY_HEADER_INVALID: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'header {header} of gateway {gateway} says nothing: <why>; nothing was done. Look at the version of the gateway',
  },
  DESTINATION_NOT_ALLOWED: {
    code: 'PERMISSION_DENIED',
    libvirt: '-',
    text: 'destination {path} is in no folder that the server allows; start it with --allow-destination FOLDER',
  },
  CALLER_NOT_ALLOWED: {
    code: 'PERMISSION_DENIED',
    libvirt: 'VIR_ERR_OPERATION_DENIED',
    text: 'caller {caller} may not {operation} on domain {domain}',
  },
  CALLER_UNKNOWN: {
    code: 'UNAUTHENTICATED',
    libvirt: 'VIR_ERR_AUTH_FAILED',
    text: 'the caller has no certificate that this server accepts: <why>',
  },
  ACCESS_DENIED: {
    code: 'PERMISSION_DENIED',
    libvirt: 'VIR_ERR_SYSTEM_ERROR',
    text: 'the file system denies it: {path}: <why>',
  },
  NO_SPACE: {
    code: 'RESOURCE_EXHAUSTED',
    libvirt: 'VIR_ERR_SYSTEM_ERROR',
    text: 'no space left for {path}: <why>',
  },
  LIMIT_REACHED: {
    code: 'RESOURCE_EXHAUSTED',
    libvirt: 'VIR_ERR_SYSTEM_ERROR',
    text: '<who> has come to a limit of the system, at {path}: <why>; <wayOut>',
  },
  TOO_MANY_JOBS: {
    code: 'RESOURCE_EXHAUSTED',
    libvirt: '-',
    text: 'this host runs {limit} jobs already; try again when one has ended',
  },
  TOO_MANY_WATCHERS: {
    code: 'RESOURCE_EXHAUSTED',
    libvirt: '-',
    text: 'job {job} has {limit} watchers already; close one',
  },
  TOO_MANY_CALLS: {
    code: 'RESOURCE_EXHAUSTED',
    libvirt: '-',
    text: 'too many calls at a time: <full>',
  },
  QEMU_UNREACHABLE: {
    code: 'UNAVAILABLE',
    libvirt: 'VIR_ERR_OPERATION_INVALID',
    text: 'QEMU of domain {domain} cannot be reached: <why>',
  },
  HOST_UNREACHABLE: {
    code: 'UNAVAILABLE',
    libvirt: '-',
    text: 'host {host} cannot be reached: <why>',
  },
  DIRECTORY_UNREACHABLE: {
    code: 'UNAVAILABLE',
    libvirt: '-',
    text: 'the directory does not answer (<why>), and <what> cannot be found without it',
  },
  DRAINING: {
    code: 'UNAVAILABLE',
    libvirt: '-',
    text: 'this server is shutting down; its jobs go on in QEMU. Connect again and resume by revision',
  },
  TIME_LIMIT_REACHED: {
    code: 'DEADLINE_EXCEEDED',
    libvirt: '-',
    text: 'job {job} was cancelled: its time limit of {timeLimit} seconds is over',
  },
  REVISION_UNKNOWN: {
    code: 'OUT_OF_RANGE',
    libvirt: '-',
    text: 'job {job} has no revision {revision} yet; the last is {last}',
  },
  QEMU_TOO_OLD: {
    code: 'UNIMPLEMENTED',
    libvirt: 'VIR_ERR_OPERATION_UNSUPPORTED',
    text: 'QEMU {version} of domain {domain} has no <feature>; it came with QEMU {since}',
  },
  NOT_IMPLEMENTED: {
    code: 'UNIMPLEMENTED',
    libvirt: 'VIR_ERR_NO_SUPPORT',
    text: 'this server does not do <feature> yet; nothing was changed',
  },
  PATH_REPLACED: {
    code: 'ABORTED',
    libvirt: '-',
    text: '{path} is no longer what it was a moment ago: a link or another file was put in its place, or in that of a folder on its way; start again, and let nobody else rename things there',
  },
  PLAN_CHANGED: {
    code: 'ABORTED',
    libvirt: '-',
    text: 'the plan is no longer true: <why>; ask for a new one',
  },
  REFUSED_BY_QEMU: {
    code: 'FAILED_PRECONDITION',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'the QEMU of domain {domain} refused or failed: <doing>: "{qemuText}"; mend what it names (its log may say more), and try again',
  },
  REASON_UNKNOWN: {
    code: 'FAILED_PRECONDITION',
    libvirt: '-',
    text: 'another version of this service says no for a reason that this one does not know ({otherReason}): <said>; have both of one version',
  },
  JOB_LOST: {
    code: 'ABORTED',
    libvirt: 'VIR_ERR_OPERATION_FAILED',
    text: 'job {job} ended unseen: <why>; read the outcome before you touch a file',
  },
  NOT_ON_DISK: {
    code: 'ABORTED',
    libvirt: '-',
    text: 'job {job} is not proved to be on stable storage: {path}: <why>; read the outcome before you touch a file',
  },
  BUG: {
    code: 'INTERNAL',
    libvirt: 'VIR_ERR_INTERNAL_ERROR',
    text: 'a bug of this service; its log has the stack under id {id}',
  },
} as const satisfies Record<string, CatalogueEntry>;

export type Reason = keyof typeof catalogue;

/** The domain is not this host's: it has not begun. */
export const NOT_OURS = ['NOT_OWNER', 'OWNER_UNKNOWN', 'OWNERSHIP_STALE'] as const satisfies readonly Reason[];
