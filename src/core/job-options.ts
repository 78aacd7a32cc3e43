/** The options of a job after the checks: nothing is unspecified any more. */

export type JobKind = 'COPY' | 'PULL' | 'COMMIT' | 'ACTIVE_COMMIT';
export type ImageFormat = 'RAW' | 'QCOW2';
export type WriteMode = 'BACKGROUND' | 'BLOCKING';
export type OnReady = 'HOLD' | 'PIVOT' | 'FINISH';
export type OnNoSpace = 'PAUSE' | 'FAIL';
export type PauseGuest = 'AUTO' | 'ALWAYS' | 'NEVER';
export type ConfigOwner = 'NONE' | 'EXTERNAL';

export type AtDeadline = 'ABORT' | 'HOLD' | 'PAUSE_GUEST';

/** The steps that the caller allows for a copy that does not end. */
export interface EndPolicy {
  /** Before the first step, and between two, the job is known for so long not to end. */
  readonly patienceMs: number;
  /** The job's own limit is lifted to this one; 0: it stays. */
  readonly ceilingBytesPerSecond: number;
  readonly switchToBlocking: boolean;
  /** A unit that fits the writes of the guest so far, if the request gives none. */
  readonly chooseGranularity: boolean;
  /** The action when the time limit has expired. */
  readonly atDeadline: AtDeadline;
  /** For PAUSE_GUEST; otherwise undefined. */
  readonly maxGuestPauseMs: number | undefined;
  /** Undefined: the guest is never slowed down. */
  readonly guestThrottle?: GuestThrottlePolicy | undefined;
}

/** The losses that the caller may accept. */
export type Accept = 'LOSES_ENCRYPTION' | 'LOSES_INTERNAL_SNAPSHOTS' | 'SHARED_WRITER';

/** Bounds for the limit on the guest's writes. */
export interface GuestThrottlePolicy {
  readonly floorBytesPerSecond: number;
  readonly maxDurationMs: number;
}

/** One set for all kinds of jobs. An option that a kind does not have is as in `plainOptions`. */
export interface JobOptions {
  /** Bytes a second; 0: no limit. */
  readonly bandwidthBytesPerSecond: number;
  readonly shallow: boolean;
  readonly reuseExternal: boolean;
  readonly relativeBacking: boolean;
  /** The part of a destination that is taken over is compared before the start. Also undefined in older journals. */
  readonly verifyReused?: boolean;
  /** If undefined, QEMU chooses (the destination's cluster size, 4 KiB to 64 KiB). */
  readonly granularityBytes: number | undefined;
  readonly bufferBytes: number;
  readonly writeMode: WriteMode;
  readonly onReady: OnReady;
  readonly onNoSpace: OnNoSpace;
  /** Also with less space than is needed. Also undefined in older journals. */
  readonly overcommit?: boolean;
  readonly pauseGuest: PauseGuest;
  /** No limit if undefined. */
  readonly timeLimitMs: number | undefined;
  /** Undefined: the service does nothing. Also undefined in older journals. */
  readonly endPolicy?: EndPolicy;
  /** The image that backs the result, or takes the data; '' for none. */
  readonly basePath: string;
  /** The highest image whose data a commit moves. */
  readonly topPath: string;
  readonly deleteCommitted: boolean;
  /** Undefined for a job without a pivot, and in journals older than this field: NONE. */
  readonly configOwner?: ConfigOwner;
  /** The accepted losses. Also undefined in journals older than this field. */
  readonly accept?: readonly Accept[];
}

/**
 * The smallest buffer with which QEMU's mirror works correctly: it has 16 operations of 1 MiB in flight. With less it
 * starts operations that wait for a buffer and are not counted. Then the remaining bytes, and so READY, are wrong, and
 * on a slow destination QEMU allocates memory until it aborts (seen with 7.2, 10.0 and 11.1).
 */
export const LEAST_BUFFER_BYTES = 16 * 1024 * 1024;

/** The options of a job that takes only a speed limit, for example a pull. */
export function plainOptions(bandwidthBytesPerSecond: number): JobOptions {
  return {
    bandwidthBytesPerSecond,
    shallow: false,
    reuseExternal: false,
    relativeBacking: false,
    granularityBytes: undefined,
    // An active commit has this buffer, too: QEMU does not take another one.
    bufferBytes: LEAST_BUFFER_BYTES,
    writeMode: 'BACKGROUND',
    onReady: 'HOLD',
    onNoSpace: 'FAIL',
    pauseGuest: 'AUTO',
    timeLimitMs: undefined,
    basePath: '',
    topPath: '',
    deleteCommitted: false,
  };
}
