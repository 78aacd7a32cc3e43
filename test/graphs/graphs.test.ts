/** A short run of test/graphs/round.ts, always the same one; `make graphs` runs others, and longer. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { Random } from '../support/random.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { round, type Tally } from './round.ts';

const ROUNDS = Number(process.env['GRAPHS_ROUNDS'] ?? 16);
const SEED = Number(process.env['GRAPHS_SEED'] ?? 1);

describe.skipIf(needs('qemu'))('random graphs, moved in all ways', () => {
  test.each([
    ['of files that everybody finds', false, false, ROUNDS],
    ['of files that QEMU alone finds, in a mount namespace of its own', true, false, Math.ceil(ROUNDS / 2)],
    ['of files that are renamed in the middle', false, true, Math.ceil(ROUNDS / 2)],
    ['of files that QEMU alone finds, and that are renamed in the middle', true, true, Math.ceil(ROUNDS / 4)],
  ] as const)(
    '%s: a completed move has the data that the guest saw, and nothing else is touched',
    {
      // The limit of a run is its number of rounds: some take seconds.
      timeout: 600_000 + ROUNDS * 10_000,
    },
    async (_where, isApart, isMeddled, rounds) => {
      console.log(`graphs from seed ${SEED} on; GRAPHS_SEED=${SEED} GRAPHS_ROUNDS=1 makes the same decisions`);
      await using site = await Site.open(['/dev']);
      await using dir = await testDir('bj-graphs-');
      const { service, sockets } = site;
      const [folder, scratch] = [join(dir.path, 'all'), join(dir.path, 'scratch')];
      const canLoop = !needs('loop');
      const tally: Tally = { ends: new Map(), done: 0 };
      for (let seed = SEED; seed < SEED + rounds; seed += 1) {
        for (const path of [folder, scratch]) await mkdir(path);
        const place = { service, sockets, folder, scratch, canLoop, isApart, isMeddled };
        await round(`g${seed}`, new Random(seed), place, tally);
        for (const path of [folder, scratch]) await rm(path, { recursive: true });
      }
      console.log(`${rounds} graphs:`, tally.ends);
      // A service that refuses everything is never wrong. If files are renamed, many moves have to fail.
      expect(tally.done).toBeGreaterThan(isMeddled ? -1 : rounds / 5);
    },
  );
});
