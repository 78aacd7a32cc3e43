/** A short run of test/chaos/chaos.ts; `make chaos` runs it longer. */
import { expect, test } from 'vitest';
import { present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { Random } from '../support/random.ts';
import { Chaos } from './chaos.ts';
import { CUTS, cutRound } from './power-rounds.ts';

const KILLS = Number(process.env['CHAOS_KILLS'] ?? 75);
/** The least kills in each phase: fewer would prove nothing. */
const LEAST = 5;
/** A round with a power cut needs a VM of its own. */
const KILLS_A_CUT = 100;
const SEED = Number(process.env['CHAOS_SEED'] ?? Date.now() % 1_000_000);

test.skipIf(needs('guest'))(
  'SIGKILL at random instants, through all phases of all kinds of jobs on several disks: no wrong outcome',
  {
    // The bound of a run is its number of kills: some take a second.
    timeout: 600_000 + KILLS * 10_000,
  },
  async () => {
    console.log(`chaos with seed ${SEED}; CHAOS_SEED=${SEED} makes the same decisions`);
    const said: string[] = [];
    await using chaos = await Chaos.start(SEED, (line) => said.push(line));
    const { tally, killer, waits, meddler } = chaos;
    const least = () => Math.min(...killer.phases.values());
    try {
      await chaos.run(() => killer.kills >= KILLS && least() >= LEAST);
    } catch (error) {
      console.log([...said, await chaos.report()].join('\n'));
      throw error;
    }
    console.log(`${tally.rounds} rounds, ${killer.kills} kills, ${tally.events} events:`);
    console.log(killer.phases, killer.sights, tally.ends);
    console.log(`${tally.helped} jobs were helped by their end policy; ${tally.traces.count} traces of the percentage`);
    if (tally.leaks.size > 0) console.log('QEMU keeps', tally.leaks);
    console.log(`longest wait ${Math.round(waits.longestMs)} ms; continued again ${meddler.lookedAgain} times`);
    expect(tally.events).toBeGreaterThan(tally.rounds);
  },
);

test.skipIf(needs('guest', 'power-cut'))(
  'the power is cut when a job has ended, under a service that was killed meanwhile: the result is on disk',
  { timeout: 600_000 + KILLS * 10_000 },
  async () => {
    const random = new Random(SEED);
    const ends = new Map<string, number>();
    let kills = 0;
    for (let round = 0; round < CUTS.length + KILLS / KILLS_A_CUT; round += 1) {
      const cut = await cutRound(random, present(CUTS[round % CUTS.length]));
      ends.set(cut.end, (ends.get(cut.end) ?? 0) + 1);
      kills += cut.kills;
    }
    console.log(`${kills} kills:`, ends);
    expect(kills).toBeGreaterThan(0);
  },
);
