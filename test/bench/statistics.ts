/** The statistics of a bench. */
import { present } from '../support/checks.ts';

/** The mean of the two in the middle if their number is even. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const above = Math.floor(sorted.length / 2);
  return (present(sorted[Math.ceil(sorted.length / 2) - 1]) + present(sorted[above])) / 2;
}

/** The smallest value that is not exceeded by this share of the values. */
export function quantile(values: readonly number[], share: number): number {
  return present(values.toSorted((a, b) => a - b)[Math.ceil(share * values.length) - 1]);
}

/**
 * How many times as much as the peer, in each round; values that are not of rounds give one ratio, that of the medians.
 * A peer's value of zero gives none.
 */
export function ratios(ours: readonly number[], peers: readonly number[]): readonly number[] {
  const all =
    ours.length === peers.length
      ? ours.map((value, round) => value / present(peers[round]))
      : [median(ours) / median(peers)];
  return all.filter(Number.isFinite);
}

/** More is better. */
export function isRate(unit: string): boolean {
  return /\ba second\b/.test(unit);
}
