/** The expected chain of the disk, from the actions and not from QEMU. */
import type { Contents } from './contents.ts';
import { cold, type Image } from './images.ts';
import type { Move } from './move.ts';

export interface Link {
  readonly path: string;
  readonly format: string;
  readonly files: readonly string[];
  /** The options to open it by its name and format alone. */
  readonly open: object;
  /** The contents of its snapshot. */
  readonly snapshot: Contents | undefined;
}

/** From the top down. */
export type Chain = readonly [Link, ...Link[]];

export function linkOf(image: Image): Link {
  const { path, plan, files, snapshot } = image;
  return { path, format: plan.format, files, open: cold(image), snapshot };
}

export function chainOf(images: readonly Image[]): Chain {
  const [top, ...below] = images.map(linkOf).toReversed();
  if (top === undefined) throw new Error('no image');
  return [top, ...below];
}

/** The chain after the move. `copy`: the image that a copy has made. */
export function after(chain: Chain, move: Move, copy: Link | undefined): Chain {
  const [top, ...below] = chain;
  if (move.what === 'copy') {
    if (copy === undefined) throw new Error('no copy');
    return move.isShallow && move.destination !== 'reused, flat' ? [copy, ...below] : [copy];
  }
  if (move.what === 'pull') return [top, ...(move.base === undefined ? [] : chain.slice(move.base))];
  const [base, ...rest] = chain.slice(move.base);
  if (base === undefined) throw new Error('no base');
  return move.top === 0 ? [base, ...rest] : [top, ...chain.slice(1, move.top), base, ...rest];
}

/**
 * The images whose bytes a move may change, beside the destination's. The guest writes to the active image all the
 * time.
 */
export function mayChange(chain: Chain, move: Move): readonly Link[] {
  const [top] = chain;
  if (move.what !== 'commit') return [top];
  return [top, ...chain.slice(Math.max(0, move.top - 1), move.top), ...chain.slice(move.base, move.base + 1)];
}

/** The images that a commit deletes, if it should. */
export function mayGo(chain: Chain, move: Move): readonly Link[] {
  return move.what === 'commit' && move.deletes ? chain.slice(move.top, move.base) : [];
}

/** The chain without the snapshots of these images. */
export function without(snapshotsOf: ReadonlySet<string>, [top, ...below]: Chain): Chain {
  const one = (link: Link): Link => (snapshotsOf.has(link.path) ? { ...link, snapshot: undefined } : link);
  return [one(top), ...below.map(one)];
}
