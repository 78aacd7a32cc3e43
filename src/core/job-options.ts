/** A job's options as understood: nothing is unspecified any more. */

export type JobKind = 'COPY' | 'PULL' | 'COMMIT' | 'ACTIVE_COMMIT';
export type ImageFormat = 'RAW' | 'QCOW2';
export type WriteMode = 'BACKGROUND' | 'BLOCKING';
export type OnReady = 'HOLD' | 'PIVOT' | 'FINISH';
export type OnNoSpace = 'PAUSE' | 'FAIL';
export type PauseGuest = 'AUTO' | 'ALWAYS' | 'NEVER';

/** What would be lost, and may be. */
export type Accept = 'LOSES_ENCRYPTION' | 'LOSES_INTERNAL_SNAPSHOTS' | 'SHARED_WRITER';

/** One set for all kinds of jobs; what a kind does not have is as `plainOptions` says. */
export interface JobOptions {
  /** Bytes a second; 0: no limit. */
  readonly bandwidthBytesPerSecond: number;
  readonly shallow: boolean;
  readonly reuseExternal: boolean;
  readonly relativeBacking: boolean;
  /** What is taken over from a destination is compared before the start. Undefined also in older journals. */
  readonly verifyReused?: boolean;
  /** Undefined: QEMU chooses (the destination's cluster size, 4 KiB to 64 KiB). */
  readonly granularityBytes: number | undefined;
  readonly bufferBytes: number;
  readonly writeMode: WriteMode;
  readonly onReady: OnReady;
  readonly onNoSpace: OnNoSpace;
  readonly pauseGuest: PauseGuest;
  /** Undefined: for as long as it takes. */
  readonly timeLimitMs: number | undefined;
  /** The image that backs the result, or takes the data; '' where there is none. */
  readonly basePath: string;
  /** The highest image whose data a commit moves. */
  readonly topPath: string;
  readonly deleteCommitted: boolean;
  /** What is lost, as was accepted. Undefined also in journals of before it could be. */
  readonly accept?: readonly Accept[];
}

/**
 * The least that QEMU's mirror is sound with: it has 16 pieces of work of 1 MiB under way. With less it begins pieces that
 * wait for a buffer and that it counts nowhere, without end: what is left, and so READY, is not what it says, and on a slow
 * destination it gathers memory until QEMU aborts (seen with 7.2, 10.0 and 11.1).
 */
export const LEAST_BUFFER_BYTES = 16 * 1024 * 1024;

/** The options of a job that is asked for nothing but a limit: a pull, say. */
export function plainOptions(bandwidthBytesPerSecond: number): JobOptions {
  return {
    bandwidthBytesPerSecond,
    shallow: false,
    reuseExternal: false,
    relativeBacking: false,
    granularityBytes: undefined,
    // Also what an active commit has: QEMU gives it this much, and takes no other wish.
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
