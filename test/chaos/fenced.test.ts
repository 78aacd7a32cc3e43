/** A short run of gate-rounds.ts; GATE_ROUNDS=200 takes half an hour, and longer on a busy machine. */
import { expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { Random } from '../support/random.ts';
import { GateRounds } from './gate-rounds.ts';

const ROUNDS = Number(process.env['GATE_ROUNDS'] ?? 4);
const SEED = Number(process.env['CHAOS_SEED'] ?? Date.now() % 1_000_000);

test.skipIf(needs('qemu'))(
  'a gate under kills of the service and of the owner: no pivot without a fitting record, none twice, none lost',
  { timeout: 120_000 + ROUNDS * 60_000 },
  async () => {
    console.log(`gates with seed ${SEED}; CHAOS_SEED=${SEED} makes the same decisions`);
    await using rounds = await GateRounds.start(new Random(SEED));
    for (let round = 0; round < ROUNDS; round += 1) await rounds.round();
    console.log(rounds.tally);
    expect(rounds.tally.moved).toBeGreaterThan(0);
    expect(rounds.tally.refusals).toBeGreaterThan(0);
  },
);
