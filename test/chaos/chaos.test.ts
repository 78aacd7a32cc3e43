/** A bounded run of test/chaos/chaos.ts; `make chaos` runs it for as long as one likes. */
import { expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { Chaos, PHASES } from './chaos.ts';

const KILLS = Number(process.env['CHAOS_KILLS'] ?? 200);
/** Of each phase: too few of one would say nothing about it. */
const LEAST = 5;

test.skipIf(needs('guest'))(
  'SIGKILL at random instants, through all phases of all kinds of jobs: no wrong outcome',
  {
    // The bound of a run is its number of kills: some take a second.
    timeout: 600_000 + KILLS * 10_000,
  },
  async () => {
    const seed = Number(process.env['CHAOS_SEED'] ?? Date.now() % 1_000_000);
    console.log(`chaos with seed ${seed}; CHAOS_SEED=${seed} decides alike`);
    const said: string[] = [];
    await using chaos = await Chaos.start(seed, (line) => said.push(line));
    const { tally } = chaos;
    const least = () => Math.min(...PHASES.map((phase) => tally.kills.get(phase) ?? 0));
    try {
      while (chaos.kills < KILLS || least() < LEAST) await chaos.round();
    } catch (error) {
      console.log([...said, await chaos.report()].join('\n'));
      throw error;
    }
    console.log(`${tally.rounds} rounds, ${chaos.kills} kills:`, tally.kills, tally.ends, `${tally.events} events`);
    expect(tally.events).toBeGreaterThan(tally.rounds);
  },
);
