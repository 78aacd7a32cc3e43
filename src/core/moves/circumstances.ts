/** The circumstances of a job at a moment, from its memory. */
import type { Job } from '../job/job.ts';
import { isForced, isOverNetwork } from '../job/job-facts.ts';
import { FORCE_AGAIN_MS, type Memory } from './memory.ts';
import type { Asked, Asking, Circumstance, QemuRefusals } from './moves.ts';
import { underWayMs } from './pace.ts';

/** A start takes milliseconds; a guest that never stops writing is paused for its pivot, which takes up to seconds. */
const OVERDUE_MS: Partial<Record<Job['state'], number>> = { STARTING: 1000, PIVOTING: 30_000 };
/** A pivot that has next to nothing left needs a pause of milliseconds: it is not waited for as long. */
const LINGERS_MS = 3000;
const NEXT_TO_NOTHING_MS = 1000;
/** The guest's own time-out for its disk is 30 seconds and more. */
export const HOLD_LIMIT_MS = 5000;
/** A hold ends by itself at its limit, and QEMU answers at once: after this time it waits for storage that hangs. */
const HANGS_AFTER_MS = HOLD_LIMIT_MS + 1000;
/** The longest time that `stop` may have to wait, so that time is left for the pivot. */
const UNDER_WAY_LIMIT_MS = HOLD_LIMIT_MS / 2;
/** The guest's pause at the deadline begins within this time, or not at all. */
const PAUSE_WITHIN_MS = 10_000;
/** A QEMU that hangs on its storage may come back in less; a caller that asks for force does not wait for ever. */
const GIVE_UP_MS = 30_000;
/** QEMU drains its disks in less. */
const PAUSE_LASTS_MS = 200;
/** A refusal that lasts longer is not due to a race. */
const REFUSES_MS = 2000;
/** The command is repeated after this time: QEMU may refuse it while it drains its disks for a server that hangs. */
const REFUSED_AGAIN_MS = 5000;
/** How often to look while no event comes: during a start, while an end waits, and until a guest has proved to stay. */
const LOOK_AGAIN_MS = {
  STARTING: 20,
  PIVOTING: 500,
  CANCELLING: 500,
  held: 10,
  migrates: 500,
  pace: 250,
  network: 2000,
};

/** The state of QEMU and of its connection to the destination, from events and answers alone. */
export interface Heard {
  /** For how long it has not answered any command. */
  readonly silentMs: number;
  /** Whether it has reported the job as under way, and no end since. */
  readonly isUnderWay: boolean;
  readonly connectionBroken: boolean;
}

export const NOTHING_HEARD: Heard = { silentMs: 0, isUnderWay: false, connectionBroken: false };

/** Whether these words of QEMU are new. */
export function isNews({ refusals }: Memory, asking: Asking, words: string): boolean {
  return refusals.get(asking)?.words !== words;
}

/** The moment for which a memory is asked. */
export interface Moment {
  readonly nowMs: number;
  /** The time until the job's own limit. */
  readonly leftMs: number;
  /** The time until its guest may not be slowed down any longer. */
  readonly throttleLeftMs: number;
}

export function askedNow(
  memory: Memory,
  { nowMs, leftMs, throttleLeftMs }: Moment,
  heard: Heard,
): { readonly asked: Asked; readonly refused: QemuRefusals } {
  const { job, asked } = memory;
  const heldMs = nowMs - memory.heldSinceMs;
  const refusals = [...memory.refusals];
  const waiting = refusals.filter(
    ([, { sinceMs, lastMs }]) => lastMs - sinceMs > REFUSES_MS && nowMs - lastMs < REFUSED_AGAIN_MS,
  );
  const lasting = refusals.filter(([, { sinceMs }]) => nowMs - sinceMs > REFUSES_MS);
  const isEndAsked = asked.has('complete') || asked.has('end');
  const is: Readonly<Record<Circumstance, boolean>> = {
    timeIsUp: leftMs <= 0,
    timeIsLongUp: leftMs <= -PAUSE_WITHIN_MS,
    pauseLasts: pauseLasts(memory, nowMs),
    overdue: isOverdue(memory, nowMs),
    heldTooLong: job.guestHeld && heldMs > holdLimitMs(job),
    givenUp:
      (isForced(job) || job.giveUpRequested) && nowMs - Math.max(memory.heardAtMs, memory.intentAtMs) > GIVE_UP_MS,
    waitsFarTooLong: waitsFarTooLong(memory, nowMs, heard),
    endsTooLong:
      isEndAsked && nowMs - Math.max(memory.endAskedAtMs, memory.pace.stillSinceMs ?? nowMs) > HANGS_AFTER_MS,
    stopsSoon: (underWay(memory) ?? Infinity) <= UNDER_WAY_LIMIT_MS,
    fenced: nowMs < memory.fencedUntilMs,
    connectionBroken: heard.connectionBroken,
    destinationMoved: memory.destinationMoved,
    throttleIsOver: throttleLeftMs <= 0,
    restsFromHold: !job.guestHeld && heldMs < memory.restMs,
  };
  return {
    asked: new Set([...asked, ...waiting.map(([asking]) => asking), ...namesIn(is)]),
    refused: Object.fromEntries(lasting.map(([asking, { words }]) => [asking, words])),
  };
}

function namesIn<N extends string>(is: Readonly<Record<N, boolean>>): readonly N[] {
  const names: N[] = [];
  for (const name in is) if (is[name]) names.push(name);
  return names;
}

function isOverdue(memory: Memory, nowMs: number): boolean {
  const lastsMs = nowMs - memory.stateSinceMs;
  if (lastsMs > (OVERDUE_MS[memory.job.state] ?? Infinity)) return true;
  // If nothing at all is left, and nothing is copied, it waits for storage, and a pause would not help.
  const isLeftLittle = memory.pace.stillSinceMs === undefined && (underWay(memory) ?? Infinity) <= NEXT_TO_NOTHING_MS;
  return memory.job.state === 'PIVOTING' && memory.asked.has('complete') && lastsMs > LINGERS_MS && isLeftLittle;
}

function waitsFarTooLong(memory: Memory, nowMs: number, { silentMs, isUnderWay }: Heard): boolean {
  const { job, asked } = memory;
  const guestStays = !asked.has('complete') && (isUnderWay || job.state === 'STARTING');
  if (!guestStays && job.concluded === undefined) return false;
  return waitsMs(memory, nowMs, silentMs) > HANGS_AFTER_MS && nowMs - memory.copiesYankedAtMs > FORCE_AGAIN_MS;
}

/** For how long the guest may have waited for storage. */
function waitsMs({ job, heldSinceMs }: Memory, nowMs: number, silentMs: number): number {
  return Math.max(silentMs, job.guestHeld ? nowMs - heldSinceMs : 0);
}

function holdLimitMs({ guestPause, accepted }: Job): number {
  const { maxGuestPauseMs = HOLD_LIMIT_MS } = accepted.options.endPolicy ?? {};
  return guestPause === 'HELD' ? maxGuestPauseMs : HOLD_LIMIT_MS;
}

function pauseLasts({ pausedSinceMs }: Memory, nowMs: number): boolean {
  return nowMs - pausedSinceMs >= PAUSE_LASTS_MS;
}

function underWay({ job, pace }: Memory): number | undefined {
  return underWayMs(pace, job.accepted.options.bufferBytes);
}

/** The earliest time at which the guest may wait for storage that hangs. */
export function mayHangInMs(memory: Memory, nowMs: number, silentMs: number): number {
  const yankAgainMs = memory.copiesYankedAtMs + FORCE_AGAIN_MS - nowMs;
  return Math.max(1, HANGS_AFTER_MS - waitsMs(memory, nowMs, silentMs), yankAgainMs);
}

/** The latest time for the next look. Undefined if an event, a request or the connection will cause it. */
export function lookAgainMs(memory: Memory, moment: Moment): number | undefined {
  const { nowMs, leftMs, throttleLeftMs } = moment;
  const { job, pausedSinceMs, refusals } = memory;
  const { state } = job;
  if (job.guestHeld) return LOOK_AGAIN_MS.held;
  if (pausedSinceMs <= nowMs && !pauseLasts(memory, nowMs)) return PAUSE_LASTS_MS;
  if (memory.guestMigrates) return LOOK_AGAIN_MS.migrates;
  if (state === 'PIVOTING' && underWay(memory) === undefined) return LOOK_AGAIN_MS.pace;
  if (state === 'STARTING' || state === 'PIVOTING' || state === 'CANCELLING') return LOOK_AGAIN_MS[state];
  const inMs = Math.min(
    ...[leftMs, leftMs + PAUSE_WITHIN_MS, throttleLeftMs].filter((ms) => ms > 0),
    refusals.size > 0 ? REFUSED_AGAIN_MS : Infinity,
    // A server that hangs causes no event, but another client's command, and so the guest, may wait for it.
    isOverNetwork(job) ? LOOK_AGAIN_MS.network : Infinity,
  );
  return inMs === Infinity ? undefined : inMs;
}
