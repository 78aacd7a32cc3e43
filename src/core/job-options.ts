/** A job's options as understood: nothing is unspecified any more. */

export type ImageFormat = 'RAW' | 'QCOW2';
export type WriteMode = 'BACKGROUND' | 'BLOCKING';
export type OnReady = 'HOLD' | 'PIVOT' | 'FINISH';
export type OnNoSpace = 'PAUSE' | 'FAIL';
export type PauseGuest = 'AUTO' | 'ALWAYS' | 'NEVER';

/** One set for all kinds of jobs; what a kind does not have is as `plainOptions` says. */
export interface JobOptions {
  /** Bytes a second; 0: no limit. */
  readonly bandwidthBytesPerSecond: number;
  readonly shallow: boolean;
  readonly reuseExternal: boolean;
  readonly relativeBacking: boolean;
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
}

/** The options of a job that is asked for nothing but a limit: a pull, say. */
export function plainOptions(bandwidthBytesPerSecond: number): JobOptions {
  return {
    bandwidthBytesPerSecond,
    shallow: false,
    reuseExternal: false,
    relativeBacking: false,
    granularityBytes: undefined,
    // QEMU's own default of 16 MiB makes a speed limit jump, and a slow target block the monitor for long.
    bufferBytes: 1024 * 1024,
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
