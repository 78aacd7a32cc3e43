/**
 * Copies that slow their guest down, in a short run: the service is killed at random moments, and each copy ends in a
 * random way. Nothing limits the guest afterwards. THROTTLE_ROUNDS=100 takes half an hour.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { Random } from '../support/random.ts';
import { expectFree, limitsIn, slowingCopy, slowPlace, startRig } from '../support/real-qemu/slowed-guest.ts';
import { byId } from '../support/service/caller.ts';

const ROUNDS = Number(process.env['THROTTLE_ROUNDS'] ?? 3);
const SEED = Number(process.env['CHAOS_SEED'] ?? Date.now() % 1_000_000);
/** A guest is slowed down after five to ten seconds. */
const LONGEST_MS = 12_000;

test.skipIf(needs('guest'))(
  'a guest that is slowed down under kills of the service is let go by every ending',
  { timeout: 120_000 + ROUNDS * 120_000 },
  async () => {
    console.log(`throttles with seed ${SEED}; CHAOS_SEED=${SEED} makes the same decisions`);
    const random = new Random(SEED);
    await using rig = await startRig();
    const tally = { rounds: 0, kills: 0, slowed: 0 };
    for (; tally.rounds < ROUNDS; tally.rounds += 1) {
      const to = await slowPlace();
      const end = random.of(['ABORT', 'FAIL', 'TIME_LIMIT']);
      const timeLimitMs = 2000 + random.below(LONGEST_MS);
      const maxMs = random.chance(0.3) ? 1000 : 600_000;
      const id = await slowingCopy(rig, to, { maxMs, ...(end === 'TIME_LIMIT' && { timeLimitMs }) });
      for (let kills = random.below(3); kills > 0; kills -= 1) {
        await sleep(random.below(LONGEST_MS));
        await rig.restart();
        tally.kills += 1;
      }
      await sleep(random.below(LONGEST_MS));
      if ((await limitsIn(rig)).group === id) tally.slowed += 1;
      if (end === 'FAIL') await to[Symbol.asyncDispose]();
      else await rig.service.abort({ job: byId(id), force: true }).catch(() => undefined);
      for await (const _event of rig.service.watch(id));
      await expectFree(rig);
      if (end !== 'FAIL') await to[Symbol.asyncDispose]();
    }
    console.log(tally);
    expect(tally.slowed + tally.kills).toBeGreaterThan(0);
  },
);
