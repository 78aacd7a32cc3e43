/**
 * Copies that slow their guest down, in a short run: the service is killed at random moments, and each copy ends in a
 * random way. Nothing limits the guest afterwards. THROTTLE_ROUNDS=100 takes about an hour.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { PercentTraces } from '../support/observers/percent-traces.ts';
import { Random } from '../support/random.ts';
import type { Rig } from '../support/real-qemu/rig.ts';
import {
  expectFree,
  limitsIn,
  slowedDown,
  slowingCopy,
  slowPlace,
  startRig,
} from '../support/real-qemu/slowed-guest.ts';
import { byId } from '../support/service/caller.ts';
import { WrongOutcome } from './wrong.ts';

const ROUNDS = Number(process.env['THROTTLE_ROUNDS'] ?? 3);
const SEED = Number(process.env['CHAOS_SEED'] ?? Date.now() % 1_000_000);
/** A guest is slowed down after five to ten seconds. */
const LONGEST_MS = 12_000;
/** For as long as a copy lasts. */
const LONG_MS = 600_000;
/** The part of the rounds that have to slow their guest down; most of them do. */
const LEAST_SLOWED = 0.3;

interface Tally {
  rounds: number;
  kills: number;
  /** The rounds with a limit in QEMU. */
  slowed: number;
  /** The kills while there was one. */
  killedSlowed: number;
}

const isSlowed = async (rig: Rig, id: string) => (await limitsIn(rig)).group === id;

/** Under one service: its death ends the watch. */
async function watch({ service }: Rig, id: string, traces: PercentTraces): Promise<void> {
  const wrongIn = traces.begin();
  try {
    for await (const { job } of service.watch(id)) {
      const wrong = job === undefined ? '' : wrongIn(job);
      if (wrong !== '') throw new WrongOutcome(wrong);
    }
  } catch (error) {
    if (error instanceof WrongOutcome) throw error;
  }
}

async function round(rig: Rig, random: Random, tally: Tally, traces: PercentTraces): Promise<void> {
  const to = await slowPlace();
  // The first round is sure to slow its guest down.
  const isFirst = tally.rounds === 0;
  const end = isFirst ? 'ABORT' : random.of(['ABORT', 'FAIL', 'TIME_LIMIT']);
  const timeLimitMs = 2000 + random.below(LONGEST_MS);
  const maxMs = !isFirst && random.chance(0.3) ? 1000 : LONG_MS;
  const id = await slowingCopy(rig, to, { maxMs, ...(end === 'TIME_LIMIT' && { timeLimitMs }) });
  const watches = [watch(rig, id, traces)];
  // The kills come while the guest is slowed down, or at any time.
  const isLong = end !== 'TIME_LIMIT' && maxMs === LONG_MS;
  if (isFirst || (isLong && random.chance(0.8))) await slowedDown(rig, id);
  for (let kills = random.below(3); kills > 0; kills -= 1) {
    await sleep(random.below(LONGEST_MS));
    if (await isSlowed(rig, id)) tally.killedSlowed += 1;
    await rig.restart();
    watches.push(watch(rig, id, traces));
    tally.kills += 1;
  }
  await sleep(random.below(LONGEST_MS));
  if (await isSlowed(rig, id)) tally.slowed += 1;
  if (end === 'FAIL') await to[Symbol.asyncDispose]();
  else await rig.service.abort({ job: byId(id), force: true }).catch(() => undefined);
  await Promise.all(watches);
  await expectFree(rig);
  if (end !== 'FAIL') await to[Symbol.asyncDispose]();
}

test.skipIf(needs('guest'))(
  'a guest that is slowed down under kills of the service is let go by every ending',
  { timeout: 120_000 + ROUNDS * 240_000 },
  async () => {
    console.log(`throttles with seed ${SEED}; CHAOS_SEED=${SEED} makes the same decisions`);
    const random = new Random(SEED);
    await using rig = await startRig();
    const traces = new PercentTraces();
    const tally: Tally = { rounds: 0, kills: 0, slowed: 0, killedSlowed: 0 };
    for (; tally.rounds < ROUNDS; tally.rounds += 1) await round(rig, random, tally, traces);
    console.log(tally, `${traces.count} traces of the percentage`);
    expect(tally.slowed).toBeGreaterThanOrEqual(Math.max(1, Math.floor(ROUNDS * LEAST_SLOWED)));
  },
);
