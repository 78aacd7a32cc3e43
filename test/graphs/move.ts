/** The moves of a disk, decided by the seed and the present disk. Pure. */
import type { Random } from '../support/random.ts';

/** The end of a job that has READY. */
export type Ending = 'pivot' | 'pivots itself' | 'finish' | 'finishes itself' | 'force' | 'early';

export interface CopyMove {
  readonly what: 'copy';
  readonly isShallow: boolean;
  /** The destination before the move: nothing; an image that holds nothing, or the contents of the chain below. */
  readonly destination: 'new' | 'reused' | 'reused, flat';
  readonly format: 'raw' | 'qcow2' | 'default';
  readonly folder: string;
  readonly name: string;
  readonly isRelative: boolean;
  readonly isBlocking: boolean;
  readonly granularityBytes: number;
  readonly ending: Ending;
  readonly isSlow: boolean;
}

export interface PullMove {
  readonly what: 'pull';
  /** From the top, which is 0. */
  readonly base: number | undefined;
  readonly isRelative: boolean;
  readonly ending: 'done' | 'early';
  readonly isSlow: boolean;
}

export interface CommitMove {
  readonly what: 'commit';
  readonly top: number;
  readonly base: number;
  readonly deletes: boolean;
  readonly isRelative: boolean;
  /** For lower images: done; for the active image as for a copy. */
  readonly ending: 'done' | 'pivot' | 'finish' | 'early';
  readonly isSlow: boolean;
}

export type Move = CopyMove | PullMove | CommitMove;

const FOLDERS = ['', 'one', 'out', 'deep/er', 'new, folder', 'images/new'] as const;
const NAMES = ['copy', 'nbd:copy', 'c o,p=y', 'ü', 'm'.repeat(230)] as const;

/** `depth`: the images of the chain. */
export function moveOf(random: Random, depth: number, number: number): Move {
  const kinds = [
    'copy',
    'copy',
    'copy',
    ...(depth > 1 ? (['pull', 'commit', 'commit'] as const) : (['pull'] as const)),
  ] as const;
  const kind = random.of<Move['what']>([kinds[0], ...kinds.slice(1)]);
  const isSlow = random.chance(0.4);
  if (kind === 'copy') return copyMove(random, number, isSlow);
  const ending = random.chance(0.15) ? 'early' : 'done';
  if (kind === 'pull') {
    const base = depth > 1 && random.chance(0.6) ? 1 + random.below(depth - 1) : undefined;
    return { what: 'pull', base, isRelative: base !== undefined && random.chance(0.3), ending, isSlow };
  }
  const top = random.chance(0.45) ? 0 : random.below(depth - 1);
  const base = top + 1 + random.below(depth - 1 - top);
  return {
    what: 'commit',
    top,
    base,
    deletes: random.chance(0.3),
    isRelative: top > 0 && random.chance(0.3),
    ending: top > 0 ? ending : random.of(['pivot', 'pivot', 'finish', 'early']),
    isSlow,
  };
}

function copyMove(random: Random, number: number, isSlow: boolean): CopyMove {
  const isShallow = random.chance(0.5);
  const format = random.of<CopyMove['format']>(['raw', 'qcow2', 'qcow2', 'default']);
  const made = random.of<CopyMove['destination']>(['new', 'new', 'reused', 'reused, flat']);
  // A raw image has nothing below it.
  const destination = made === 'reused' && format === 'raw' ? 'reused, flat' : made;
  return {
    what: 'copy',
    isShallow,
    destination,
    format,
    folder: random.of(FOLDERS),
    name: `${random.of(NAMES)}-${number}`,
    isRelative: isShallow && destination === 'new' && random.chance(0.4),
    isBlocking: random.chance(0.25),
    granularityBytes: random.of([0, 0, 512, 4096, 1 << 20]),
    ending: random.of<Ending>(['pivot', 'pivot', 'pivots itself', 'finish', 'finishes itself', 'force', 'early']),
    isSlow,
  };
}
