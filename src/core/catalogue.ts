/**
 * The catalogue of every reason for which this service refuses a request or fails a job: reason → gRPC code → text →
 * libvirt's name for the same error. A text has two kinds of slots. `{data}` are identifiers, numbers and paths; they
 * are also in the error's metadata, so a program never has to read the text. `<sentences>` are for people and are only
 * in the text. A text says what is wrong, then what to do.
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

interface Row {
  /** libvirt's error for the same condition; undefined if libvirt has none. */
  readonly libvirt?: string;
  readonly text: string;
}

interface Coded<Code extends CatalogueCode, Text extends string> {
  readonly code: Code;
  /** '-' if libvirt has none. */
  readonly libvirt: string;
  readonly text: Text;
}

function coded<Code extends CatalogueCode, const Rows extends Readonly<Record<string, Row>>>(code: Code, rows: Rows) {
  const entries = Object.entries(rows).map(([reason, row]) => [reason, { code, libvirt: '-', ...row }]);
  return Object.fromEntries(entries) as { readonly [R in keyof Rows]: Coded<Code, Rows[R]['text']> };
}

export const catalogue = {
  ...coded('INVALID_ARGUMENT', {
    FLAG_REQUIRES_COPY: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: 'flag {flag} is valid only for a copy; add COPY, or remove {flag}',
    },
    FLAGS_EXCLUSIVE: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: '{first} and {second} exclude each other; remove one of them',
    },
    BASE_REQUIRED: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: '{field} is required: <why>',
    },
    BASE_NOT_IN_CHAIN: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: '{image} cannot be the base or top for disk {disk}: it is <what>; GetDomain shows the chain',
    },
    PATH_NOT_ABSOLUTE: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: '{field} must be an absolute path, not "{path}"',
    },
    BANDWIDTH_OUT_OF_RANGE: {
      libvirt: 'VIR_ERR_OVERFLOW',
      text: '{field} is {value}; the range is 0 (no limit) to {maximum}',
    },
    GRANULARITY_INVALID: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: 'granularity_bytes is {value}; it must be 0 (chosen by QEMU) or a power of two from 512 to 67108864',
    },
    BUFFER_INVALID: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'buffer_bytes is {value}; the range is 0 to {maximum}, and values below 16 MiB mean 16 MiB',
    },
    NOT_A_BLOCK_DEVICE: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: 'destination {path} is not a block device; name a block device, or use a file destination',
    },
    FIELD_INVALID: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: '{field}: <problem>',
    },
  }),
  ...coded('NOT_FOUND', {
    DOMAIN_NOT_FOUND: {
      libvirt: 'VIR_ERR_NO_DOMAIN',
      text: 'no domain has the name or UUID "{domain}"; ListDomains lists the known domains',
    },
    DISK_NOT_FOUND: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: 'domain {domain} has no disk "{disk}", or several disks match that name; GetDomain lists its disks',
    },
    JOB_NOT_FOUND: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: 'no job has the id {job}; ListJobs lists active and ended jobs',
    },
    DISK_HAS_NO_JOB: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: 'no job is known for disk {disk} of domain {domain}; ListJobs lists active and ended jobs',
    },
    DESTINATION_MISSING: {
      libvirt: 'VIR_ERR_SYSTEM_ERROR',
      text: '{path} does not exist; create it first',
    },
  }),
  ...coded('ALREADY_EXISTS', {
    DESTINATION_EXISTS: {
      libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
      text: 'destination {path} already exists and was not changed; name a new file, or set reuse_external to use this one',
    },
    REQUEST_ID_REUSED: {
      text: 'request_id {requestId} was already used for a different request (job {job}); use a new request_id',
    },
    REQUEST_ID_IN_USE: {
      text: 'a different request with the request_id {requestId} is still in progress; use a new request_id',
    },
  }),
  ...coded('FAILED_PRECONDITION', {
    BLOCK_COPY_ACTIVE: {
      libvirt: 'VIR_ERR_BLOCK_COPY_ACTIVE',
      text: 'job {job} is copying disk {disk} of domain {domain}; wait for it to end, or abort it first',
    },
    BLOCK_JOB_ACTIVE: {
      libvirt: 'VIR_ERR_OPERATION_UNSUPPORTED',
      text: 'block job {job} is running on disk {disk} of domain {domain}; wait for it to end',
    },
    START_UNDER_WAY: {
      libvirt: 'VIR_ERR_OPERATION_UNSUPPORTED',
      text: 'another job is being started on disk {disk} of domain {domain}; wait for it to end',
    },
    CHAIN_BUSY: {
      libvirt: 'VIR_ERR_OPERATION_INVALID',
      text: 'block job {job} is using an image of domain {domain} below the active image of the disk; wait for it to end',
    },
    JOB_NOT_READY: {
      libvirt: 'VIR_ERR_BLOCK_COPY_ACTIVE',
      text: 'job {job} is {state}, and only a READY job can pivot; wait until the job is READY. The job continues',
    },
    JOB_ENDING: {
      libvirt: 'VIR_ERR_OPERATION_INVALID',
      text: 'job {job} is {state} and is already ending; watch it for the result',
    },
    JOB_ENDED: {
      libvirt: 'VIR_ERR_INVALID_ARG',
      text: 'job {job} has already ended: {state}',
    },
    PIVOT_UNSUPPORTED: {
      libvirt: 'VIR_ERR_BLOCK_COPY_ACTIVE',
      text: 'job {job} is a {kind} and has no destination to pivot to',
    },
    SHALLOW_INTO_RAW: {
      libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
      text: 'a shallow copy of disk {disk} needs a format with backing files, and raw has none; choose QCOW2, or copy the whole disk',
    },
    RELATIVE_UNSUPPORTED: {
      libvirt: 'VIR_ERR_ARGUMENT_UNSUPPORTED',
      text: 'a relative backing file name cannot be used here: <why>',
    },
    FORMAT_UNKNOWN: {
      libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
      text: '{path} has a format that cannot be used here ({format}): <why>',
    },
    CHAIN_UNUSABLE: {
      text: "{path} cannot be part of the destination's chain: <why>; correct the header that names it, or create the destination again",
    },
    SIZE_MISMATCH: {
      text: 'destination {path} has {destinationBytes} bytes, and the disk has {sourceBytes}; make the sizes equal',
    },
    EXPORT_SIZE_DIFFERS: {
      text: 'destination {path} and the disk do not have the same size; make the sizes equal',
    },
    DESTINATION_IN_USE: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'destination {path} is in use: <by>',
    },
    DESTINATION_UNREACHABLE: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'the NBD server of {path} cannot be reached: <why>',
    },
    TLS_CREDENTIALS_UNUSABLE: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'the QEMU of domain {domain} cannot use the TLS credentials that were named for {path}: <why>; add a tls-creds-x509 object with endpoint=client to that QEMU, or name another object',
    },
    NBD_REFUSED: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'the NBD server of {path} answers, but QEMU cannot open the export: <why>; <wayOut>',
    },
    STORAGE_FAILED: {
      libvirt: 'VIR_ERR_SYSTEM_ERROR',
      text: 'storage failed: <doing>: <why>; <wayOut>',
    },
    FILE_TOO_LARGE: {
      libvirt: 'VIR_ERR_SYSTEM_ERROR',
      text: '{path} cannot grow to the required size: <why>; use a file system that allows larger files, or raise the limit RLIMIT_FSIZE of the process. Free space does not help',
    },
    DISK_EMPTY: {
      libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
      text: 'disk {disk} of domain {domain} has no medium; insert one first',
    },
    NOT_OWNER: {
      text: 'host {host} does not own domain {domain}; send the request to {owner}',
    },
    OWNER_UNKNOWN: {
      text: 'the directory says that host {host} does not own domain {domain}; send the request to a gateway',
    },
    OWNERSHIP_STALE: {
      text: 'a gateway sent a request for domain {domain} to host {host}, but another host owns the domain now; try again',
    },
    GUEST_MIGRATING: {
      libvirt: 'VIR_ERR_OPERATION_INVALID',
      text: 'the guest of domain {domain} is migrating or has migrated away (QEMU: {status}), and its disks on this host must not change; when the migration has ended, repeat the request on the host of the guest',
    },
    MANAGED_BY_LIBVIRT: {
      text: 'libvirt manages domain {domain} (its QEMU has <sign>), and <why>; use libvirt for this operation, for example virsh blockcopy',
    },
    PATH_DIFFERS_IN_QEMU: {
      text: '{path} leads this service to one file, and the QEMU of domain {domain} to another (containers, chroots, PrivateTmp); name a path that leads both to the same file',
    },
    FILE_NOT_KNOWN: {
      text: '{path} cannot be proved to be the file that the QEMU of domain {domain} has open, because it was renamed or replaced; start the job without the deletion of that file',
    },
    IMAGE_UNSUITABLE: {
      text: '{path} (node {node}) <what>, and cannot <use>: <why>; <wayOut>',
    },
    NAME_TOO_LONG: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'the name {name} has {bytes} bytes, but the header of {path} has room for {maximum}; use relative names or shorter paths',
    },
    LOSS_NOT_ACCEPTED: {
      text: '{path} (node {node}) <what>: <why>; <wayOut>, or accept {accept}',
    },
    SECRET_NOT_FOUND: {
      libvirt: 'VIR_ERR_NO_SECRET',
      text: 'the QEMU of domain {domain} has no secret {secretId} (<why>); add the secret to that QEMU, or name another secret',
    },
    SECRET_WRONG: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'the named secret does not open {path}; name the secret that has the key of this image',
    },
    ENCRYPTION_MISMATCH: {
      libvirt: 'VIR_ERR_CONFIG_UNSUPPORTED',
      text: 'destination {path} <what>; <wayOut>',
    },
    HEADER_DIFFERS: {
      text: 'the header of {path} (node {node}) names <says>, but QEMU uses <has> below this image: the next start of the VM would open a different disk; copy the whole disk instead, or correct the header while the VM is off (qemu-img rebase -u)',
    },
    GUEST_LIMIT_SHARED: {
      text: 'disk {disk} of domain {domain} has a limit of another client (group {group}), which could not be restored exactly after a crash: the guest is not slowed down; start without guest_throttle, or take the limit away',
    },
    GUEST_FLOOR_TOO_HIGH: {
      text: 'at the floor of {floorBytes} bytes per second the copy would not end either: the guest would have to write {neededBytes} at most; allow a lower floor, or take a faster destination',
    },
    REUSED_UNLIKE: {
      text: 'a shallow copy needs a destination with the contents of {backing}, and {path} has other contents: <why>; create the destination again, request a comparison (verify_reused), or copy the whole disk',
    },
    REUSED_DIFFERS: {
      text: 'a shallow copy needs a destination with the contents of {backing}, and {path} has other contents: the first difference is in the sector at byte {offset}; create the destination again, or copy the whole disk',
    },
    VERIFY_BROKEN_OFF: {
      text: 'the comparison of {path} was interrupted: <why>; nothing was copied. Start again',
    },
    DESTINATION_MOVED: {
      text: '{path} is no longer the file that QEMU has open: it was removed, renamed or replaced; give that file its name back, or abort the job',
    },
    CONFIG_NOT_RECORDED: {
      text: 'the configuration of the VM has an external owner, which has not recorded the new path: write {path} into it, and send the token {token} of the gate of job {job} with the pivot (record)',
    },
    CONFIG_RECORD_STALE: {
      text: 'the record {token} does not belong to the gate of job {job}: it is of another attempt; read Job.pivot_gate, write its path into the configuration of the VM, and send its token',
    },
    GATEWAY_HEADER_INVALID: {
      text: 'header {header} of gateway {gateway} is invalid: <why>; nothing was done. Check the version of the gateway',
    },
  }),
  ...coded('PERMISSION_DENIED', {
    DESTINATION_NOT_ALLOWED: {
      text: 'this server does not allow destination {path}; start the server with an --allow-destination that includes it',
    },
    CALLER_NOT_ALLOWED: {
      libvirt: 'VIR_ERR_OPERATION_DENIED',
      text: 'caller {caller} may not {operation} domain {domain}; ask the operator to change the policy',
    },
  }),
  ...coded('UNAUTHENTICATED', {
    CALLER_UNKNOWN: {
      libvirt: 'VIR_ERR_AUTH_FAILED',
      text: 'the caller has no certificate that this server accepts: <why>',
    },
  }),
  ...coded('PERMISSION_DENIED', {
    ACCESS_DENIED: {
      libvirt: 'VIR_ERR_SYSTEM_ERROR',
      text: 'the file system denies access to {path}: <why>',
    },
  }),
  ...coded('RESOURCE_EXHAUSTED', {
    NO_SPACE: {
      libvirt: 'VIR_ERR_SYSTEM_ERROR',
      text: 'no space left for {path}: <why>',
    },
    SPACE_LOW: {
      text: '{path} has {freeBytes} bytes free, and <what> needs {neededBytes}; free some space, or start with overcommit',
    },
    LIMIT_REACHED: {
      libvirt: 'VIR_ERR_SYSTEM_ERROR',
      text: '<program> reached a limit of the system at {path}: <why>; <wayOut>',
    },
    TOO_MANY_JOBS: {
      text: 'this host already runs {limit} jobs; try again when one has ended',
    },
    TOO_MANY_WATCHERS: {
      text: 'job {job} already has {limit} watchers; close one of them first',
    },
    TOO_MANY_WATCHES: {
      text: 'this server already has {limit} watches of all jobs; close one of them first',
    },
    TOO_MANY_CALLS: {
      text: 'too many calls at the same time: <full>',
    },
  }),
  ...coded('UNAVAILABLE', {
    QEMU_UNREACHABLE: {
      libvirt: 'VIR_ERR_OPERATION_INVALID',
      text: 'QEMU of domain {domain} cannot be reached: <why>',
    },
    HOST_UNREACHABLE: {
      text: 'host {host} cannot be reached: <why>; try again, a write with the same request_id',
    },
    DIRECTORY_UNREACHABLE: {
      text: 'the directory does not answer (<why>), and <what> cannot be found without it; try again later',
    },
    DRAINING: {
      text: 'this server is shutting down; its jobs continue in QEMU. Connect again and resume by revision',
    },
  }),
  ...coded('DEADLINE_EXCEEDED', {
    TIME_LIMIT_REACHED: {
      text: 'job {job} was cancelled because its time limit of {timeLimit} seconds expired',
    },
  }),
  ...coded('OUT_OF_RANGE', {
    REVISION_UNKNOWN: {
      text: 'job {job} has no revision {revision} yet; the last is {last}',
    },
  }),
  ...coded('UNIMPLEMENTED', {
    QEMU_TOO_OLD: {
      libvirt: 'VIR_ERR_OPERATION_UNSUPPORTED',
      text: 'QEMU {version} of domain {domain} has no <feature>, which QEMU {since} introduced; use a QEMU that has it',
    },
    NOT_IMPLEMENTED: {
      libvirt: 'VIR_ERR_NO_SUPPORT',
      text: 'this server does not support <feature> yet; nothing was changed',
    },
    VERSIONS_DIFFER: {
      code: 'UNIMPLEMENTED',
      libvirt: '-',
      text: 'the agent of host {host} has version {agentVersion}, and the gateway has {gatewayVersion}: the <older> is too old for {feature}; upgrade the <older>. Nothing was changed',
    },
  }),
  ...coded('ABORTED', {
    PATH_REPLACED: {
      text: '{path} changed during the request: somebody replaced it, or a folder above it, by a link or another file; start again, and do not rename files there',
    },
    PLAN_CHANGED: {
      text: 'the plan is out of date: <why>; request a new plan',
    },
  }),
  ...coded('FAILED_PRECONDITION', {
    REFUSED_BY_QEMU: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'QEMU of domain {domain} reported an error (<doing>): "{qemuText}"; correct the cause (the log of QEMU may say more), and try again',
    },
    REASON_UNKNOWN: {
      text: 'another version of this service refused the request for a reason that this version does not know ({otherReason}): <said>; run the same version everywhere',
    },
  }),
  ...coded('ABORTED', {
    JOB_LOST: {
      libvirt: 'VIR_ERR_OPERATION_FAILED',
      text: 'job {job} ended, but its result is not known: <why>; read the outcome before you touch a file',
    },
    NOT_ON_DISK: {
      text: 'it is not proved that the data of job {job} is on stable storage: {path}: <why>; read the outcome before you touch a file',
    },
  }),
  ...coded('INTERNAL', {
    BUG: {
      libvirt: 'VIR_ERR_INTERNAL_ERROR',
      text: 'internal error, a bug of this service; its log has the stack under id {id}',
    },
  }),
} as const;

export type Reason = keyof typeof catalogue;

/** Reasons for which an agent refuses a request for a domain of another host. The agent has not begun it. */
export const NOT_OURS = ['NOT_OWNER', 'OWNER_UNKNOWN', 'OWNERSHIP_STALE'] as const satisfies readonly Reason[];
