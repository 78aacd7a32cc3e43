/** The plan of a round, decided by the seed and the present disk. Pure. */
import { AtDeadline, type EndPolicy, OnReady } from '../../generated/blockjob/v1/job.ts';
import { fromMs } from '../../src/client/durations.ts';
import type { Random } from '../support/random.ts';
import type { ImageFormat } from '../support/real-qemu/qemu.ts';

export type Bus = 'virtio' | 'nvme';
export type Kind = 'copy' | 'shallow copy' | 'pull' | 'active commit' | 'commit';
/** The destination of a copy: a file, a file on a small file system, or an NBD server. */
export type Place = 'file' | 'tight' | 'nbd';
/** The server stops answering for a time; all data that is sent to it is lost; or it has reset all connections. */
export type Trouble = 'hangs' | 'loses all' | 'is cut off';

/** The actions of other clients of QEMU, and of its host. */
const TO_A_JOB = [
  'block-job-cancel',
  'job-cancel',
  'job-pause',
  'block-job-set-speed',
  'job-complete',
  'job-dismiss',
] as const;
const TO_A_VM = ['freeze', 'stop'] as const;
export type Meddling = (typeof TO_A_JOB)[number] | (typeof TO_A_VM)[number];

/** A copy for the case that it does not end: with `isSlow` it does not, and gets the time for a step. */
export interface Help {
  readonly endPolicy: Partial<EndPolicy>;
  readonly timeLimitMs: number | undefined;
  readonly isSlow: boolean;
}

export interface Plan {
  readonly what: Kind;
  readonly place: Place;
  readonly format: ImageFormat;
  readonly onReady: OnReady;
  /** Bytes a second; 0n: none. */
  readonly limit: bigint;
  readonly overcommit: boolean;
  readonly help: Help | undefined;
  /** The job is not pivoted. */
  readonly staysWhereItIs: boolean;
  /** The job ends before READY. */
  readonly early: boolean;
  readonly paused: boolean;
  /** The time after which a caller ends it by force. */
  readonly patienceMs: number;
  readonly trouble: { readonly what: Trouble; readonly afterMs: number } | undefined;
  readonly meddling: { readonly what: Meddling; readonly afterMs: number; readonly forMs: number } | undefined;
}

/** The input of a decision. */
export interface Situation {
  /** How many images the disk's chain has. */
  readonly images: number;
  readonly isOnNbd: boolean;
  readonly bus: Bus;
  readonly canBeTight: boolean;
}

const SLOW = 4n << 20n;
const PATIENCE_MS = 40_000;
/** The guest writes more. */
const TOO_SLOW = 1n << 20n;
const FAST = 64n << 20n;
const FLOOR = 256n << 10n;
/** A verdict takes longer: a copy with such a limit may be READY before, or have no verdict at its end. */
const SOON_MS = 3000;
const { ON_READY_HOLD: HOLD, ON_READY_PIVOT: PIVOT, ON_READY_FINISH: FINISH } = OnReady;

export function planOf(random: Random, situation: Situation): Plan {
  const what = kindOf(random, situation);
  const place = placeOf(random, what, situation);
  const trouble = place === 'nbd' && random.chance(0.7) ? troubleOf(random) : undefined;
  // A server that is gone for good must not have become the guest's own disk.
  const staysWhereItIs = trouble !== undefined && trouble.what !== 'hangs';
  const onReady = staysWhereItIs ? random.of([HOLD, FINISH]) : random.of([HOLD, HOLD, PIVOT, FINISH]);
  const help = what.includes('copy') && random.chance(0.4) ? helpOf(random, place) : undefined;
  const limit = help?.isSlow === true ? TOO_SLOW : random.chance(0.5) ? SLOW : 0n;
  return {
    what,
    place,
    help,
    // A start without it is refused if there is not enough space.
    overcommit: random.chance(0.5),
    format: place === 'nbd' || (what === 'copy' && random.chance(0.4)) ? 'raw' : 'qcow2',
    onReady: what.includes('copy') ? onReady : HOLD,
    limit,
    staysWhereItIs,
    early: onReady === HOLD && random.chance(0.15),
    paused: random.chance(0.2),
    patienceMs: trouble === undefined ? PATIENCE_MS : trouble.afterMs + 500 + random.below(12_000),
    trouble,
    meddling: meddlingOf(random, situation.bus, staysWhereItIs),
  };
}

/** A job to do; its time, and the processes that die meanwhile, are random. */
export function planOfCut(random: Random, what: Kind, onReady: OnReady): Plan {
  return {
    what,
    place: 'file',
    format: 'qcow2',
    onReady,
    limit: random.chance(0.5) ? SLOW : 0n,
    overcommit: false,
    help: undefined,
    staysWhereItIs: false,
    early: false,
    paused: false,
    patienceMs: PATIENCE_MS,
    trouble: undefined,
    meddling: undefined,
  };
}

function kindOf(random: Random, { images, isOnNbd }: Situation): Kind {
  // Its server will be gone some day.
  if (isOnNbd) return 'copy';
  const kinds: [Kind, ...Kind[]] = ['copy', 'copy', 'shallow copy', 'pull', 'active commit', 'commit'];
  const kind = random.of(kinds);
  const enough = { copy: 1, 'shallow copy': 2, pull: 2, 'active commit': 2, commit: 3 }[kind];
  return images >= enough ? kind : 'copy';
}

function placeOf(random: Random, what: Kind, { isOnNbd, canBeTight }: Situation): Place {
  if (what !== 'copy' || isOnNbd) return 'file';
  const place = random.of<Place>(['file', 'file', 'file', 'nbd', 'nbd', 'tight']);
  return place === 'tight' && !canBeTight ? 'file' : place;
}

function troubleOf(random: Random): NonNullable<Plan['trouble']> {
  return { what: random.of<Trouble>(['hangs', 'hangs', 'loses all', 'is cut off']), afterMs: random.below(2500) };
}

function meddlingOf(random: Random, bus: Bus, staysWhereItIs: boolean): Plan['meddling'] {
  if (!random.chance(0.6)) return undefined;
  const what = random.chance(0.4) ? random.of(TO_A_VM) : random.of(TO_A_JOB);
  // If a client pivots an NVMe disk of a busy guest without a pause, QEMU can crash.
  if (what === 'job-complete' && (bus === 'nvme' || staysWhereItIs)) return undefined;
  return { what, afterMs: random.below(600), forMs: random.below(what === 'freeze' ? 1500 : 300) };
}

function helpOf(random: Random, place: Place): Help {
  const isSlow = place === 'file' && random.chance(0.4);
  const { AT_DEADLINE_ABORT: ABORT, AT_DEADLINE_HOLD: HOLD_ON, AT_DEADLINE_PAUSE_GUEST: PAUSE } = AtDeadline;
  const timeLimitMs = isSlow || random.chance(0.5) ? undefined : 1000 + random.below(SOON_MS);
  const atDeadline = timeLimitMs === undefined ? ABORT : random.of([ABORT, HOLD_ON, PAUSE]);
  const isLifted = random.chance(0.4);
  const maxDuration = fromMs(random.chance(0.5) ? 1000 + random.below(SOON_MS) : 600_000);
  const endPolicy = {
    patience: fromMs(1000),
    bandwidthCeilingBytesPerSecond: isLifted ? FAST : 0n,
    atDeadline,
    ...(atDeadline === PAUSE && { maxGuestPause: fromMs(random.of([500, 2000])) }),
    ...((!isLifted || random.chance(0.5)) && { guestThrottle: { floorBytesPerSecond: FLOOR, maxDuration } }),
  };
  return { endPolicy, timeLimitMs, isSlow };
}
