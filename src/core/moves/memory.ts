/**
 * What is remembered of a job between two looks: what QEMU was asked, and since when things are as they are. It is a fold of
 * what happens, by the time that it is told.
 */
import type { Job } from '../job/job.ts';
import { isOverNetwork } from '../job/job-facts.ts';
import type { Asking, Seen } from './moves.ts';
import { NO_PACE, paceAfter } from './pace.ts';

/**
 * QEMU's NBD client can miss a cancel that comes while it finds out that its connection is broken, and then waits for a
 * server that hangs (seen with QEMU 7.2): it is told again.
 */
export const FORCE_AGAIN_MS = 2000;
/** A host that may not move the guest asks again after so long. */
const FENCED_MS = 1000;
/** Between two holds the guest gets so many times as long for its work as it was held. */
const REST_PER_HOLD = 4;

export type Happening =
  /** So the job is written down now, and over this connection its QEMU is asked: what a lost one swallowed is asked again. */
  | { readonly is: 'written'; readonly job: Job; readonly generation: number }
  | { readonly is: 'seen'; readonly seen: Seen }
  | { readonly is: 'asked'; readonly asking: Asking }
  /** QEMU has said yes, and does it. */
  | { readonly is: 'accepted'; readonly asking: Asking }
  /** QEMU has done it, or it has never come to QEMU: the same may be asked for anew. */
  | { readonly is: 'forgotten'; readonly asking: Asking }
  /** It is as if never asked, but for how long QEMU has been refusing it. */
  | { readonly is: 'refused'; readonly asking: Asking; readonly words: string }
  /** Right before the guest was to be moved. */
  | { readonly is: 'destination-found'; readonly hasMoved: boolean }
  /** Who has the domain is another host, or not known: the guest is not to be moved now. */
  | { readonly is: 'fenced' }
  /** So were the connections of all copies. */
  | { readonly is: 'copies-yanked' };

interface Refusal {
  readonly sinceMs: number;
  readonly lastMs: number;
  readonly words: string;
}

const NOTHING_ASKED: ReadonlySet<Asking> = new Set();
const NOTHING_REFUSED: ReadonlyMap<Asking, Refusal> = new Map();

export type Memory = Readonly<ReturnType<typeof memoryOf>>;

/** As of a job that has just begun. What it has come to is told when its QEMU can be asked, and holds since then. */
export function memoryOf({ intent: _i, wantsPaused: _p, wantsBandwidth: _b, ...job }: Job, nowMs: number) {
  const begun: Job = { ...job, state: 'STARTING', guestHeld: false, giveUpRequested: false };
  return {
    /** As it was last written down: a cancel by force, say, is not the cancel that was asked for before. */
    job: begun,
    generation: 0,
    asked: NOTHING_ASKED,
    refusals: NOTHING_REFUSED,
    destinationMoved: false,
    guestMigrates: false,
    stateSinceMs: nowMs,
    /** Since when the guest is held, or is not held any more; long ago when it never was. */
    heldSinceMs: -Infinity,
    restMs: 0,
    fencedUntilMs: -Infinity,
    /** When an end by force was asked for, and when any end. */
    forcedAtMs: Infinity,
    endAskedAtMs: Infinity,
    copiesYankedAtMs: -Infinity,
    /** Since when the job is seen to be paused, and no error explains it. */
    pausedSinceMs: Infinity,
    /** When QEMU last said something. */
    heardAtMs: nowMs,
    /** When the present end or pivot was asked for, or the job given up, as far as this service knows. */
    intentAtMs: nowMs,
    /** Since the state is what it is: what was copied before tells nothing of the destination now. */
    pace: NO_PACE,
  };
}

export function remember(memory: Memory, what: Happening, nowMs: number): Memory {
  switch (what.is) {
    case 'written':
      return written(memory, what, nowMs);
    case 'seen':
      return seen(memory, what.seen, nowMs);
    case 'asked': {
      const asked = new Set(memory.asked).add(what.asking);
      if (what.asking === 'forceEnd') return { ...memory, asked, forcedAtMs: nowMs };
      const isEnd = what.asking === 'complete' || what.asking === 'end';
      return { ...memory, asked, ...(isEnd && { endAskedAtMs: nowMs }) };
    }
    case 'accepted':
      return { ...memory, refusals: forgotten(memory, [what.asking]).refusals };
    case 'forgotten':
      return forgotten(memory, [what.asking]);
    case 'refused': {
      const sinceMs = memory.refusals.get(what.asking)?.sinceMs ?? nowMs;
      const { asked, refusals } = forgotten(memory, [what.asking]);
      return {
        ...memory,
        asked,
        refusals: new Map(refusals).set(what.asking, { sinceMs, lastMs: nowMs, words: what.words }),
      };
    }
    case 'destination-found':
      return { ...memory, destinationMoved: what.hasMoved };
    case 'fenced':
      return { ...memory, fencedUntilMs: nowMs + FENCED_MS };
    case 'copies-yanked':
      return { ...memory, copiesYankedAtMs: nowMs };
  }
}

function written(before: Memory, { job, generation }: Pick<Memory, 'job' | 'generation'>, nowMs: number): Memory {
  const was = before.job;
  const isAnother = generation !== before.generation || job.intent !== was.intent;
  const isForcedAgain = isOverNetwork(job) && nowMs - before.forcedAtMs > FORCE_AGAIN_MS;
  if (job === was && !isAnother && !isForcedAgain) return before;
  const isGivenUp = job.giveUpRequested !== was.giveUpRequested;
  // A wish that is given up changes nothing of what QEMU refuses.
  const isOtherPause = job.wantsPaused !== undefined && job.wantsPaused !== was.wantsPaused;
  const isOtherSpeed = job.wantsBandwidth !== undefined && job.wantsBandwidth !== was.wantsBandwidth;
  const anew: readonly Asking[] = [
    ...(isAnother ? [...before.asked, ...before.refusals.keys()] : []),
    ...(isForcedAgain ? (['yank', 'forceEnd'] as const) : []),
    ...(isOtherPause ? (['pause', 'resume'] as const) : []),
    ...(isOtherSpeed ? (['speed'] as const) : []),
    ...(isGivenUp ? (['yank'] as const) : []),
  ];
  return {
    ...forgotten(before, anew),
    job,
    generation,
    ...(isForcedAgain && { forcedAtMs: Infinity }),
    ...((isGivenUp || job.intent !== was.intent) && { intentAtMs: nowMs }),
    ...(job.state !== was.state && { stateSinceMs: nowMs, pace: NO_PACE }),
    ...(job.guestHeld !== was.guestHeld && { heldSinceMs: nowMs }),
    ...(was.guestHeld && !job.guestHeld && { restMs: REST_PER_HOLD * (nowMs - before.heldSinceMs) }),
  };
}

function seen(before: Memory, now: Seen, nowMs: number): Memory {
  const job = now.qemu === 'UP' ? now.job : undefined;
  const isPaused = job?.paused === true && job.ioStatus === 'ok';
  return {
    ...before,
    guestMigrates: now.qemu === 'UP' && now.guestMigrates,
    pausedSinceMs: isPaused ? Math.min(before.pausedSinceMs, nowMs) : Infinity,
    ...(now.qemu !== 'SILENT' && { heardAtMs: nowMs }),
    ...(job !== undefined && { pace: paceAfter(before.pace, job, nowMs) }),
  };
}

function forgotten(memory: Memory, all: readonly Asking[]): Memory {
  if (all.length === 0) return memory;
  const asked = [...memory.asked].filter((asking) => !all.includes(asking));
  const refusals = [...memory.refusals].filter(([asking]) => !all.includes(asking));
  return { ...memory, asked: new Set(asked), refusals: new Map(refusals) };
}
