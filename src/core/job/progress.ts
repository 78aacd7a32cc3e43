/**
 * The progress of a job, computed from QEMU's reports, sample by sample. QEMU's end grows as the guest writes, and its
 * current may equal its end long before READY. So nothing here means "done"; only the state READY does.
 */

export type Convergence =
  /** The remaining bytes decrease. */
  | 'CONVERGING'
  /** The remaining bytes stay about the same. */
  | 'STALLED'
  /** The guest writes faster than the copy can follow. */
  | 'DIVERGING'
  /** READY: the remaining bytes are the guest's latest writes. */
  | 'SETTLED';

export interface Progress {
  /** Bytes copied, and bytes to copy in all as known now; equal only when READY (libvirt's cur and end). */
  readonly currentBytes: number;
  readonly endBytes: number;
  /** 0 to 100; never decreases, and is 100 only when READY. */
  readonly percent: number;
  readonly remainingBytes: number;
  readonly bytesPerSecond: number;
  /** The rate at which the guest's writes add bytes to copy. */
  readonly dirtyBytesPerSecond: number;
  /** Only if it is CONVERGING or SETTLED. */
  readonly etaMs: number | undefined;
  /** Undefined before two samples. */
  readonly convergence: Convergence | undefined;
  /** When QEMU was asked, RFC 3339. */
  readonly sampleTime: string;
  /** How much of the reused destination has been compared, before the copy begins. */
  readonly verified?: { readonly bytes: number; readonly ofBytes: number };
}

export interface Sample {
  /** On a monotonic clock. */
  readonly atMs: number;
  readonly time: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly ready: boolean;
}

/** Rates cover about the last five seconds: long enough to be calm, short enough to be true. */
const WINDOW_MS = 5000;

/** The data from which a job's progress is computed, one object for each job. */
export interface ProgressHistory {
  readonly samples: readonly Sample[];
  readonly percent: number;
}

export const NO_HISTORY: ProgressHistory = { samples: [], percent: 0 };

/** The samples with one more. */
export function observe(history: ProgressHistory, sample: Sample): { history: ProgressHistory; progress: Progress } {
  // The last sample counts even if it is old: a client may look only once an hour.
  const recent = history.samples.filter((old) => sample.atMs - old.atMs <= WINDOW_MS);
  const samples = [...(recent.length > 0 ? recent : history.samples.slice(-1)), sample];
  const { ready } = sample;
  const remainingBytes = Math.max(0, sample.lengthBytes - sample.offsetBytes);
  // 0 of 0 means "not begun", as in libvirt; and a copy that has caught up without READY is one byte short of it.
  const endBytes = sample.lengthBytes === 0 ? 1 : sample.lengthBytes;
  const caughtUp = ready ? endBytes : endBytes - 1;
  const currentBytes = ready ? Math.max(0, endBytes - remainingBytes) : Math.min(sample.offsetBytes, caughtUp);
  const measured = ready ? 100 : Math.min(99.9, Math.floor((currentBytes / endBytes) * 1000) / 10);
  const percent = Math.max(history.percent, measured);

  // Before QEMU has looked at the disk it reports 0 of 0: the bytes that it finds then are not new writes.
  const first = samples.find(({ lengthBytes }) => lengthBytes > 0) ?? sample;
  const seconds = (sample.atMs - first.atMs) / 1000;
  const rate = (bytes: number) => (seconds > 0 ? Math.max(0, Math.round(bytes / seconds)) : 0);
  const bytesPerSecond = rate(sample.offsetBytes - first.offsetBytes);
  const dirtyBytesPerSecond = rate(sample.lengthBytes - first.lengthBytes);
  const net = bytesPerSecond - dirtyBytesPerSecond;
  const convergence = ready ? 'SETTLED' : seconds > 0 ? converges(net, bytesPerSecond) : undefined;
  return {
    history: { samples, percent },
    progress: {
      currentBytes,
      endBytes,
      percent,
      remainingBytes,
      bytesPerSecond,
      dirtyBytesPerSecond,
      etaMs: ready ? 0 : convergence === 'CONVERGING' ? Math.ceil((remainingBytes / net) * 1000) : undefined,
      sampleTime: sample.time,
      convergence,
    },
  };
}

/** The progress of a job that is still being checked and does not copy yet. */
export function verifying(bytes: number, ofBytes: number, sampleTime: string): Progress {
  return {
    currentBytes: 0,
    endBytes: 1,
    percent: 0,
    remainingBytes: 0,
    bytesPerSecond: 0,
    dirtyBytesPerSecond: 0,
    etaMs: undefined,
    convergence: undefined,
    sampleTime,
    verified: { bytes, ofBytes },
  };
}

/** The progress of a job that has done its work: the last sample was taken before its end. */
export function finished(progress: Progress): Progress {
  const { endBytes: currentBytes } = progress;
  return { ...progress, currentBytes, percent: 100, remainingBytes: 0, etaMs: 0, convergence: 'SETTLED' };
}

/** A change of the remaining bytes counts if it is more than a twentieth of the copy's rate. */
function converges(net: number, bytesPerSecond: number): Convergence {
  if (net > bytesPerSecond / 20) return 'CONVERGING';
  return net < -bytesPerSecond / 20 ? 'DIVERGING' : 'STALLED';
}
