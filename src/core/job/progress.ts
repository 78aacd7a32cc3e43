/**
 * The progress of a job, computed from QEMU's reports, sample by sample. QEMU's end grows as the guest writes, and its
 * current may equal its end long before READY. So nothing here means "done"; only the state READY does.
 */
import { type Convergence, type Course, etaMs, NO_COURSE, type Point, proceed } from './convergence.ts';
import { hasEnded, type Job } from './job.ts';
import { verdictInWords } from './verdict-words.ts';

/** The present work of a job. */
export type Phase =
  /** The job is checked, or QEMU looks for the data. */
  | 'PREPARING'
  /** QEMU makes the destination empty, or looks for the data. It reports 0 of 0 meanwhile. */
  | 'ZEROING'
  | 'COPYING'
  /** READY: the guest's latest writes are copied. */
  | 'FOLLOWING';

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
  /** Undefined before two windows. */
  readonly convergence: Convergence | undefined;
  /** The numbers of the verdict; 0 without one. */
  readonly floorBytes: number;
  readonly demandBytesPerSecond: number;
  readonly guestBytesPerSecond: number;
  readonly guestWriteBytes: number;
  /** Undefined if an older service does not say it. */
  readonly phase: Phase | undefined;
  /** The reasons for the convergence, and for an end that is not done, in words. '' if there is nothing to say. */
  readonly reason: string;
  /** When QEMU was asked, RFC 3339. */
  readonly sampleTime: string;
  /** How much of the reused destination has been compared, before the copy begins. */
  readonly verified?: { readonly bytes: number; readonly ofBytes: number };
}

export interface Sample extends Pick<Point, 'atMs' | 'offsetBytes' | 'lengthBytes' | 'ready'> {
  readonly time: string;
  /** At the end of a window: more of what QEMU counts. Undefined for a look between. */
  readonly window?:
    | (Pick<Point, 'guest' | 'granularityBytes' | 'limitBytesPerSecond'> & { readonly isPaused: boolean })
    | undefined;
}

/** Rates cover about the last five seconds: long enough to be calm, short enough to be true. */
const RATES_MS = 5000;

/** The data from which a job's progress is computed, one object for each job. */
export interface ProgressHistory {
  readonly samples: readonly Sample[];
  readonly percent: number;
  readonly course: Course;
}

export const NO_HISTORY: ProgressHistory = { samples: [], percent: 0, course: NO_COURSE };

/** The samples with one more. */
export function observe(history: ProgressHistory, sample: Sample): { history: ProgressHistory; progress: Progress } {
  // The last sample counts even if it is old: a client may look only once an hour.
  const recent = history.samples.filter((old) => sample.atMs - old.atMs <= RATES_MS);
  const samples = [...(recent.length > 0 ? recent : history.samples.slice(-1)), sample];
  const { ready } = sample;
  const remainingBytes = Math.max(0, sample.lengthBytes - sample.offsetBytes);
  // 0 of 0 means "not begun", as in libvirt; and a copy that has caught up without READY is one byte short of it.
  const endBytes = sample.lengthBytes === 0 ? 1 : sample.lengthBytes;
  const caughtUp = ready ? endBytes : endBytes - 1;
  const currentBytes = ready ? Math.max(0, endBytes - remainingBytes) : Math.min(sample.offsetBytes, caughtUp);
  const measured = ready ? 100 : Math.min(ALMOST, Math.floor((currentBytes / endBytes) * 1000) / 10);
  const percent = Math.max(history.percent, measured);

  // Before QEMU has looked at the disk it reports 0 of 0: the bytes that it finds then are not new writes.
  const first = samples.find(({ lengthBytes }) => lengthBytes > 0) ?? sample;
  const seconds = (sample.atMs - first.atMs) / 1000;
  const rate = (bytes: number) => (seconds > 0 ? Math.max(0, Math.round(bytes / seconds)) : 0);
  const bytesPerSecond = rate(sample.offsetBytes - first.offsetBytes);
  const course = courseAfter(history.course, sample);
  const { verdict } = course;
  const hasCaughtUp = verdict === undefined || verdict.convergence === 'CONVERGING';
  const isInStep = ready && hasCaughtUp && remainingBytes <= (verdict?.bytesPerSecond ?? bytesPerSecond);
  const convergence = isInStep ? 'SETTLED' : verdict?.convergence;
  return {
    history: { samples, percent, course },
    progress: {
      currentBytes,
      endBytes,
      percent,
      remainingBytes,
      bytesPerSecond,
      dirtyBytesPerSecond: rate(sample.lengthBytes - first.lengthBytes),
      etaMs: isInStep ? 0 : verdict && etaMs(verdict, remainingBytes),
      convergence,
      floorBytes: verdict?.floorBytes ?? 0,
      demandBytesPerSecond: verdict?.demandBytesPerSecond ?? 0,
      guestBytesPerSecond: verdict?.guestBytesPerSecond ?? 0,
      guestWriteBytes: verdict?.guestWriteBytes ?? 0,
      phase: ready ? 'FOLLOWING' : sample.lengthBytes === 0 ? 'ZEROING' : 'COPYING',
      reason: verdict === undefined || convergence === 'SETTLED' ? '' : verdictInWords(verdict),
      sampleTime: sample.time,
    },
  };
}

/** The largest percentage before READY. */
const ALMOST = 99.9;

/** A pause ends the course: the rates before it say nothing about those after it. */
function courseAfter(course: Course, { window, ...sample }: Sample): Course {
  if (window === undefined) return course;
  if (window.isPaused) return { ...NO_COURSE, dataBytes: course.dataBytes };
  return proceed(course, { ...sample, ...window });
}

/** The progress of a job that is still being checked and does not copy yet. */
export function verifying(bytes: number, ofBytes: number, sampleTime: string): Progress {
  const { progress } = observe(NO_HISTORY, { atMs: 0, offsetBytes: 0, lengthBytes: 0, ready: false, time: sampleTime });
  return { ...progress, phase: 'PREPARING', verified: { bytes, ofBytes } };
}

/** The measured progress as its job is now: the journal, and not QEMU, says whether the job is READY, paused or over. */
export function progressShown(job: Job, measured: Progress, waitsFor: string): Progress {
  if (job.state === 'COMPLETED') return finished(measured);
  const { kind, options } = job.accepted;
  const isFollowed = job.ready !== undefined;
  const zeroes = kind === 'COPY' && !options.shallow;
  const progress = {
    ...measured,
    ...(!isFollowed && { percent: Math.min(measured.percent, ALMOST) }),
    ...(!isFollowed && { currentBytes: Math.min(measured.currentBytes, measured.endBytes - 1) }),
    ...(!isFollowed && measured.phase === 'FOLLOWING' && { phase: 'COPYING' as const }),
    ...(!zeroes && measured.phase === 'ZEROING' && { phase: 'PREPARING' as const }),
  };
  if (hasEnded(job)) return { ...progress, convergence: undefined, etaMs: undefined, reason: '' };
  if (job.pauseReason !== undefined)
    return { ...progress, convergence: 'STALLED', etaMs: undefined, reason: `the job is paused: ${job.pauseReason}` };
  const waits = waitsFor === '' ? '' : `waits for ${waitsFor}`;
  const reason = [waits, measured.reason, policyInWords(job, measured)].filter((one) => one !== '').join('; ');
  return reason === progress.reason ? progress : { ...progress, reason };
}

/** '' if there is no policy, or no need for it. */
function policyInWords({ accepted, policySteps, throttle }: Job, { convergence }: Progress): string {
  if (accepted.options.endPolicy === undefined || convergence === 'CONVERGING' || convergence === 'SETTLED') return '';
  const steps = [...policySteps.map(({ what }) => what), ...(throttle ? ['THROTTLE'] : [])].join(', ');
  return convergence === undefined ? '' : `steps of the end policy so far: ${steps === '' ? 'none' : steps}`;
}

/** The progress of a job that has done its work: the last sample was taken before its end. */
export function finished(progress: Progress): Progress {
  const { endBytes: currentBytes } = progress;
  return {
    ...progress,
    currentBytes,
    percent: 100,
    remainingBytes: 0,
    etaMs: 0,
    convergence: 'SETTLED',
    floorBytes: 0,
    reason: '',
  };
}
