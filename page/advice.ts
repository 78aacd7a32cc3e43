/** Advice for a person who looks at a job: facts and the next step, in a sentence or two. Pure. */
import type { ErrorReason } from '../generated/es/blockjob/v1/error_reason_pb.js';
import {
  Convergence,
  DestinationContent,
  type Job,
  Job_State,
  JobKind,
  JobSpace_Level,
  PauseReason,
} from '../generated/es/blockjob/v1/job_pb.js';
import { reasonIn } from './reasons.ts';
import type { Tone } from './words.ts';

type Reason = Exclude<keyof typeof ErrorReason, 'UNSPECIFIED'>;

const MEND = 'Correct the cause that the error names, and start the job again.';

/** The next step after a failure, by its reason. */
const AFTER: Readonly<Record<Reason, string>> = {
  FLAG_REQUIRES_COPY: MEND,
  FLAGS_EXCLUSIVE: MEND,
  BASE_REQUIRED: MEND,
  BASE_NOT_IN_CHAIN: MEND,
  PATH_NOT_ABSOLUTE: MEND,
  BANDWIDTH_OUT_OF_RANGE: MEND,
  GRANULARITY_INVALID: MEND,
  BUFFER_INVALID: MEND,
  NOT_A_BLOCK_DEVICE: MEND,
  FIELD_INVALID: MEND,
  DOMAIN_NOT_FOUND: MEND,
  DISK_NOT_FOUND: MEND,
  JOB_NOT_FOUND: MEND,
  DISK_HAS_NO_JOB: MEND,
  DESTINATION_MISSING: MEND,
  DESTINATION_EXISTS: MEND,
  REQUEST_ID_REUSED: MEND,
  REQUEST_ID_IN_USE: MEND,
  BLOCK_COPY_ACTIVE: MEND,
  BLOCK_JOB_ACTIVE: MEND,
  START_UNDER_WAY: MEND,
  CHAIN_BUSY: MEND,
  JOB_NOT_READY: MEND,
  JOB_ENDING: MEND,
  JOB_ENDED: MEND,
  PIVOT_UNSUPPORTED: MEND,
  SHALLOW_INTO_RAW: MEND,
  RELATIVE_UNSUPPORTED: MEND,
  FORMAT_UNKNOWN: MEND,
  CHAIN_UNUSABLE: MEND,
  SIZE_MISMATCH: MEND,
  EXPORT_SIZE_DIFFERS: MEND,
  DESTINATION_IN_USE: MEND,
  DESTINATION_UNREACHABLE: MEND,
  TLS_CREDENTIALS_UNUSABLE: MEND,
  NBD_REFUSED: MEND,
  STORAGE_FAILED: MEND,
  FILE_TOO_LARGE: MEND,
  DISK_EMPTY: MEND,
  NOT_OWNER: MEND,
  OWNER_UNKNOWN: MEND,
  OWNERSHIP_STALE: MEND,
  GUEST_MIGRATING: MEND,
  MANAGED_BY_LIBVIRT: MEND,
  PATH_DIFFERS_IN_QEMU: MEND,
  FILE_NOT_KNOWN: MEND,
  IMAGE_UNSUITABLE: MEND,
  NAME_TOO_LONG: MEND,
  LOSS_NOT_ACCEPTED: MEND,
  SECRET_NOT_FOUND: MEND,
  SECRET_WRONG: MEND,
  ENCRYPTION_MISMATCH: MEND,
  HEADER_DIFFERS: MEND,
  REUSED_UNLIKE: MEND,
  REUSED_DIFFERS: MEND,
  VERIFY_BROKEN_OFF: MEND,
  DESTINATION_MOVED: MEND,
  CONFIG_NOT_RECORDED: MEND,
  CONFIG_RECORD_STALE: MEND,
  GATEWAY_HEADER_INVALID: MEND,
  DESTINATION_NOT_ALLOWED: MEND,
  CALLER_NOT_ALLOWED: MEND,
  CALLER_UNKNOWN: MEND,
  ACCESS_DENIED: 'Give QEMU access to the file, and start the job again.',
  NO_SPACE: 'Free space at the destination, or name another one, and start the job again.',
  GUEST_LIMIT_SHARED: MEND,
  GUEST_FLOOR_TOO_HIGH: MEND,
  SPACE_LOW: 'Free space at the destination, name another one, or start the job with overcommit.',
  LIMIT_REACHED: MEND,
  TOO_MANY_JOBS: MEND,
  TOO_MANY_WATCHERS: MEND,
  TOO_MANY_WATCHES: MEND,
  TOO_MANY_CALLS: MEND,
  QEMU_UNREACHABLE: MEND,
  HOST_UNREACHABLE: MEND,
  DIRECTORY_UNREACHABLE: MEND,
  DRAINING: MEND,
  TIME_LIMIT_REACHED: MEND,
  REVISION_UNKNOWN: MEND,
  QEMU_TOO_OLD: MEND,
  NOT_IMPLEMENTED: MEND,
  VERSIONS_DIFFER: MEND,
  PATH_REPLACED: MEND,
  PLAN_CHANGED: MEND,
  QEMU_REFUSED: MEND,
  REFUSED_BY_QEMU: MEND,
  REASON_UNKNOWN: MEND,
  JOB_LOST: 'Check whether the VM still runs, and start the job again.',
  NOT_ON_DISK: 'Keep all images, and read the outcome: the written data may not be on disk.',
  BUG: 'Look for the id in the log of the service, and report the bug.',
};

function isKnown(reason: string): reason is Reason {
  return Object.hasOwn(AFTER, reason);
}

function after(reason: string): string {
  return isKnown(reason) ? AFTER[reason] : MEND;
}

export interface Advice {
  readonly tone: Tone;
  readonly title: string;
  readonly text: string;
}

/** Undefined if everything is normal and there is nothing to do. */
export function adviceOn(job: Job): Advice | undefined {
  return adviceOnPause(job) ?? adviceOnSpace(job) ?? adviceOnPace(job) ?? adviceOnState(job);
}

function adviceOnPause({ pauseReason }: Job): Advice | undefined {
  switch (pauseReason) {
    case PauseReason.NO_SPACE:
      return {
        tone: 'warn',
        title: 'The destination has no space left',
        text: 'The guest keeps running. Free some space: then the job goes on by itself. Or Abort it.',
      };
    case PauseReason.IO_ERROR:
      return {
        tone: 'warn',
        title: 'Reading or writing failed',
        text: 'Repair the storage and Resume the job, or Abort it.',
      };
    case PauseReason.USER:
      return {
        tone: 'warn',
        title: 'A client has paused this job',
        text: 'The guest keeps running, and its writes add to the remaining data. Resume continues the job.',
      };
    case PauseReason.UNSPECIFIED:
      return undefined;
  }
}

function adviceOnState({ id, state, pivotGate, kind, outcome, sourcePath, error }: Job): Advice | undefined {
  if (state === Job_State.READY && pivotGate !== undefined && pivotGate.recordTime === undefined) {
    return {
      tone: 'warn',
      title: 'Ready: a pivot needs a record',
      text: `Write ${pivotGate.nextStartPath} into the configuration of the VM. Then send the token ${pivotGate.token} with the pivot: blockjob pivot ${id} --recorded ${pivotGate.token}`,
    };
  }
  if (state === Job_State.READY) {
    return {
      tone: 'good',
      title: 'Ready: both sides are equal',
      text: 'Each write of the guest goes to both. Abort with pivot moves the guest to the copy; Abort without pivot keeps it where it is.',
    };
  }
  if (state === Job_State.UNRESOLVED) {
    return {
      tone: 'bad',
      title: 'The end of the job cannot be proved',
      text: 'Start nothing and delete nothing before you have looked at both images. The known facts are below; docs/recovery.md explains the steps.',
    };
  }
  if (state !== Job_State.FAILED) return undefined;
  const guest = outcome?.guestWritesTo ?? '';
  const isGone = outcome?.destinationRemoved === true;
  const isCopy = kind === JobKind.COPY;
  const isStale = outcome?.destinationContent === DestinationContent.STALE;
  return {
    tone: 'bad',
    title: 'The job failed',
    text: [
      guest === '' && 'It is not known which image the guest writes to: see the evidence below.',
      guest !== '' && guest === sourcePath && 'The guest still runs on its source, and has lost nothing.',
      isGone && 'The incomplete copy was removed.',
      isCopy && isStale && 'The copy lacks newer writes: do not use it.',
      after(reasonIn(error?.details ?? [])),
    ]
      .filter((sentence) => sentence !== false)
      .join(' '),
  };
}

function adviceOnSpace({ endTime, space }: Job): Advice | undefined {
  if (endTime !== undefined || space?.level !== JobSpace_Level.LOW) return undefined;
  return {
    tone: 'warn',
    title: 'The destination is getting full',
    text: 'The rest of the copy does not fit. The job is paused before the space is used up. Free some space.',
  };
}

function adviceOnPace({ state, progress }: Job): Advice | undefined {
  const { convergence = Convergence.UNSPECIFIED, reason = '' } = progress ?? {};
  const isWaiting = [Job_State.RUNNING, Job_State.READY, Job_State.PIVOTING].includes(state);
  if (!isWaiting || ![Convergence.STALLED, Convergence.DIVERGING].includes(convergence)) return undefined;
  return {
    tone: 'warn',
    title: 'The copy does not catch up with the guest',
    text: `The job ${reason || 'will not end at this rate'}. docs/will-my-copy-end.md explains what helps.`,
  };
}
