/** Measurements in turns: if other programs slow the machine down for a while, they slow down all that are compared. */
import { run } from '../support/real-qemu/qemu.ts';
import type { Figure } from './figure.ts';

export interface Contender {
  readonly by: string;
  /** Does the work once. Resolves with one value for each figure. */
  readonly once: () => Promise<readonly number[]>;
}

/** The number of rounds: ROUNDS of the environment, or that of the bench. */
export function rounds(usual: number): number {
  return Number(process.env['ROUNDS'] ?? usual);
}

export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

/** Writes all data to the disk: a turn does not pay for the earlier ones. */
async function sync(): Promise<void> {
  await run('sync', []);
}

/**
 * Each round has another order. `before` is for each turn: work that writes nothing needs no sync. A round more, the
 * first, warms up.
 */
export async function inTurns(
  measured: readonly Pick<Figure, 'what' | 'unit'>[],
  contenders: readonly Contender[],
  count: number,
  before: () => Promise<void> = sync,
): Promise<readonly Figure[]> {
  const table = contenders.map((one) => ({ ...one, rounds: [] as (readonly number[])[] }));
  for (let round = 0; round <= count; round += 1) {
    for (const one of shuffled(table)) {
      await before();
      const values = await one.once();
      if (round > 0) one.rounds.push(values);
    }
  }
  return measured.flatMap(({ what, unit }, at) =>
    table.map(({ by, rounds: all }) => ({ what, by, unit, values: all.map((values) => values[at] ?? Number.NaN) })),
  );
}

function shuffled<T>(all: readonly T[]): T[] {
  return all
    .map((one) => ({ one, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ one }) => one);
}
