/** Numbers, times and states for people. Pure. */
import { timestampDate } from '@bufbuild/protobuf/wkt';
import {
  DestinationContent,
  type EndStep,
  EndStep_Kind,
  Evidence_Source,
  type Job,
  Job_State,
  JobKind,
  JobSpace_Level,
  PauseReason,
} from '../generated/es/blockjob/v1/job_pb.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** Three digits: "4.21 GiB". */
export function bytes(count: bigint | number): string {
  let value = Number(count);
  let unit = 0;
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function rate(bytesPerSecond: bigint | number): string {
  return `${bytes(bytesPerSecond)}/s`;
}

export function percent(value: number): string {
  return `${value >= 100 ? '100' : value.toFixed(1)} %`;
}

/** The two largest units: "1 h 20 min". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (seconds < 1) return 'less than 1 s';
  const parts = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}

export function ago(time: Date, now: Date): string {
  const seconds = (now.getTime() - time.getTime()) / 1000;
  // The host's clock may be ahead of this one's.
  if (seconds < 5) return 'just now';
  // Exact to the minute only, because nobody waits for it.
  return `${duration(seconds < 60 ? seconds - (seconds % 5) : seconds < 3600 ? seconds - (seconds % 60) : seconds)} ago`;
}

/** "26 Nov 2026, 14:03:22", in the reader's time zone. */
export function moment(time: Date): string {
  return time.toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
}

export function clock(time: Date): string {
  return time.toLocaleTimeString('en-GB');
}

/** The severity, which decides on colour and icon beside the word. */
export type Tone = 'calm' | 'busy' | 'good' | 'warn' | 'bad';

export interface Word {
  readonly word: string;
  readonly tone: Tone;
}

const STATES: Readonly<Record<Job_State, Word>> = {
  [Job_State.UNSPECIFIED]: { word: 'Unknown', tone: 'calm' },
  [Job_State.STARTING]: { word: 'Starting', tone: 'busy' },
  [Job_State.RUNNING]: { word: 'Running', tone: 'busy' },
  [Job_State.READY]: { word: 'Ready', tone: 'good' },
  [Job_State.PIVOTING]: { word: 'Pivoting', tone: 'busy' },
  [Job_State.CANCELLING]: { word: 'Cancelling', tone: 'busy' },
  [Job_State.COMPLETED]: { word: 'Completed', tone: 'good' },
  [Job_State.CANCELLED]: { word: 'Cancelled', tone: 'calm' },
  [Job_State.FAILED]: { word: 'Failed', tone: 'bad' },
  [Job_State.UNRESOLVED]: { word: 'Unresolved', tone: 'bad' },
};

const PAUSES: Readonly<Record<PauseReason, string>> = {
  [PauseReason.UNSPECIFIED]: '',
  [PauseReason.USER]: 'Paused',
  [PauseReason.NO_SPACE]: 'Paused: no space',
  [PauseReason.IO_ERROR]: 'Paused: I/O error',
};

export function stateWord(state: Job_State, pauseReason: PauseReason): Word {
  if (pauseReason === PauseReason.UNSPECIFIED) return STATES[state];
  return { word: PAUSES[pauseReason], tone: 'warn' };
}

export const KINDS: Readonly<Record<JobKind, string>> = {
  [JobKind.UNSPECIFIED]: 'Job',
  [JobKind.COPY]: 'Copy',
  [JobKind.PULL]: 'Pull',
  [JobKind.COMMIT]: 'Commit',
  [JobKind.ACTIVE_COMMIT]: 'Active commit',
};

export const CONTENTS: Readonly<Record<DestinationContent, Word & { readonly text: string }>> = {
  [DestinationContent.UNSPECIFIED]: { word: 'No copy', tone: 'calm', text: 'This job writes no copy of the disk.' },
  [DestinationContent.PARTIAL]: {
    word: 'Partial',
    tone: 'warn',
    text: 'Only a part was copied: never use it as a disk.',
  },
  [DestinationContent.MIRRORED]: {
    word: 'Mirrored',
    tone: 'good',
    text: 'Complete, and follows the guest. Others must not use it before the job has ended.',
  },
  [DestinationContent.COMPLETE]: { word: 'Complete', tone: 'good', text: 'Complete and consistent.' },
  [DestinationContent.STALE]: {
    word: 'Stale',
    tone: 'bad',
    text: 'It was complete once, and now lacks newer writes: do not use it as a disk.',
  },
  [DestinationContent.UNKNOWN]: { word: 'Unknown', tone: 'bad', text: 'It is not known; the evidence says why.' },
};

export const EVIDENCE: Readonly<Record<Evidence_Source, string>> = {
  [Evidence_Source.UNSPECIFIED]: '',
  [Evidence_Source.JOURNAL]: 'Journal',
  [Evidence_Source.QEMU_JOB]: "QEMU's jobs",
  [Evidence_Source.QEMU_GRAPH]: "QEMU's block graph",
  [Evidence_Source.QEMU_PROCESS]: 'QEMU process',
  [Evidence_Source.FILE_SYSTEM]: 'File system',
};

/** Says whether a job has ended, in any state: a newer service may have other states. */
export function isEnded({ endTime }: Job): boolean {
  return endTime !== undefined;
}

/** A step of an end policy that was taken. */
export function stepInWords({ kind, bandwidthBytesPerSecond: limit, reason }: EndStep): string {
  const steps: Readonly<Record<EndStep_Kind, string>> = {
    [EndStep_Kind.UNSPECIFIED]: 'A step was taken',
    [EndStep_Kind.LIMIT]: `Its speed limit was lifted to ${rate(limit)}`,
    [EndStep_Kind.BLOCKING]: 'It was switched to write mode BLOCKING',
    [EndStep_Kind.HOLD]: 'It goes on after its time limit',
    [EndStep_Kind.PAUSE_GUEST]: 'The guest was paused for the rest',
  };
  return `${steps[kind]}, because ${reason}`;
}

/** '' if this job does not slow the guest down. */
export function throttleInWords({ guestThrottle: throttle }: Job): string {
  if (throttle === undefined) return '';
  const since = throttle.since === undefined ? '' : ` since ${moment(timestampDate(throttle.since))}`;
  return `throttled by this job to ${rate(throttle.limitBytesPerSecond)}${since}`;
}

/** '' if it is enough, or not known. */
export function spaceInWords({ space }: Job): string {
  if (space === undefined || space.level === JobSpace_Level.ENOUGH) return '';
  const free = space.freeBytes === undefined ? 'not known' : bytes(space.freeBytes);
  return `needs ${bytes(space.neededBytes)} more, free ${free}`;
}
