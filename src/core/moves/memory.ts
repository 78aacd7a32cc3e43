/**
 * The memory of a job between two looks: the commands that QEMU was asked, and since when each circumstance lasts. It
 * is a fold of the events, by the given time.
 */
import type { Job } from '../job/job.ts';
import { isOverNetwork } from '../job/job-facts.ts';
import type { Asking, Seen } from './moves.ts';
import { NO_PACE, paceAfter } from './pace.ts';

/**
 * QEMU's NBD client can miss a cancel at the moment when it notices a broken connection, and then waits for a server
 * that hangs (seen with QEMU 7.2): the cancel is repeated.
 */
export const FORCE_AGAIN_MS = 2000;
/** A host that may not move the guest asks again after this time. */
const FENCED_MS = 1000;
/** After a hold the guest keeps running for this many times as long as it was held. */
const REST_PER_HOLD = 4;

export type Happening =
  /** The recorded job and the connection to its QEMU. Commands that a lost connection swallowed are asked again. */
  | { readonly is: 'written'; readonly job: Job; readonly generation: number }
  | { readonly is: 'seen'; readonly seen: Seen }
  | { readonly is: 'asked'; readonly asking: Asking }
  /** QEMU has accepted the command, and carries it out. */
  | { readonly is: 'accepted'; readonly asking: Asking }
  /** QEMU has carried it out, or has never received it: it may be asked again. */
  | { readonly is: 'forgotten'; readonly asking: Asking }
  /** As if it was never asked, except for how long QEMU has been refusing it. */
  | { readonly is: 'refused'; readonly asking: Asking; readonly words: string }
  /** The look right before the guest moves. */
  | { readonly is: 'destination-found'; readonly hasMoved: boolean }
  /** Another host owns the domain, or the owner is not known: the guest must not be moved now. */
  | { readonly is: 'fenced' }
  /** The connections of all copies were broken. */
  | { readonly is: 'copies-yanked' };

interface Refusal {
  readonly sinceMs: number;
  readonly lastMs: number;
  readonly words: string;
}

const NOTHING_ASKED: ReadonlySet<Asking> = new Set();
const NOTHING_REFUSED: ReadonlyMap<Asking, Refusal> = new Map();

export type Memory = Readonly<ReturnType<typeof memoryOf>>;

/** The memory of a new job. The past of an older job is added when its QEMU answers, and counts from then. */
export function memoryOf({ intent: _i, wantsPaused: _p, wantsBandwidth: _b, ...job }: Job, nowMs: number) {
  const begun: Job = { ...job, state: 'STARTING', guestHeld: false, giveUpRequested: false };
  return {
    /** As it was last recorded: a forced cancel, for example, is a new request beside the earlier cancel. */
    job: begun,
    generation: 0,
    asked: NOTHING_ASKED,
    refusals: NOTHING_REFUSED,
    destinationMoved: false,
    guestMigrates: false,
    stateSinceMs: nowMs,
    /** Since when the guest is held, or is not held any more; -Infinity if it never was. */
    heldSinceMs: -Infinity,
    restMs: 0,
    fencedUntilMs: -Infinity,
    /** When an end by force was requested, and when any end was. */
    forcedAtMs: Infinity,
    endAskedAtMs: Infinity,
    copiesYankedAtMs: -Infinity,
    /** Since when the job is seen as paused without an error. */
    pausedSinceMs: Infinity,
    /** When QEMU last answered. */
    heardAtMs: nowMs,
    /** When the present end or pivot was requested, or the job given up, as far as this service knows. */
    intentAtMs: nowMs,
    /** Measured since the last change of state: the speed before it does not describe the destination now. */
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
  const isHeld = was.guestHeld && job.guestHeld && generation === before.generation;
  const isGivenUp = job.giveUpRequested !== was.giveUpRequested;
  // A withdrawn request does not change what QEMU refuses.
  const isAsked = job.wantsPaused !== undefined && job.wantsPaused !== was.wantsPaused;
  const isOtherPause = isAsked || job.space !== was.space;
  const isOtherSpeed = job.wantsBandwidth !== undefined && job.wantsBandwidth !== was.wantsBandwidth;
  const anew: readonly Asking[] = [
    // A guest that is held does not change its bitmaps.
    ...(isAnother ? [...before.asked, ...before.refusals.keys()].filter((asks) => !isHeld || asks !== 'bitmaps') : []),
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
