/**
 * Any request, over the contract's whole value space, has a typed answer: never a bug, a crash or a hang, and never
 * anything left behind. A failure prints the seed and the smallest request that shows it.
 */
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { hashOf, present } from '../support/checks.ts';
import { RPCS, type Rpc } from '../support/hostile/any-request.ts';
import { FuzzLane } from '../support/hostile/fuzz-lane.ts';
import { FuzzTally } from '../support/hostile/fuzz-tally.ts';
import { needs } from '../support/means.ts';
import { DEBUGGED, liveBytes } from '../support/memory.ts';
import { Site } from '../support/real-qemu/bench-qemu.ts';
import type { Service } from '../support/service/service.ts';

/** `make fuzz`: the total number of requests, a third of each of the three kinds, from the given seed. */
const ASKED_FOR = process.env['FUZZ_REQUESTS'];
const REQUESTS = Number(ASKED_FOR ?? 25_000);
const SEED = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const TIMEOUT_MS = ASKED_FOR === undefined ? 1_800_000 : 86_400_000;
/** VMs that are asked in parallel. */
const LANES = 3;
const ROUND = 480;
/** The test checks the resources of the service after each part; it is warm after the first one. */
const PARTS = 20;
const WARM = 4;
/**
 * The least share of successful requests of each RPC, in percent, about half of the usual share; the others are
 * refused.
 */
const FAR: Readonly<Record<Rpc, number>> = {
  startCopy: 2,
  rebase: 2,
  commit: 2,
  abort: 1.5,
  setSpeed: 1,
  pause: 1.5,
  resume: 1.5,
  getInfo: 1.5,
  watchJob: 0.5,
  watchJobs: 0.5,
  listJobs: 9,
  listLeftovers: 14,
  reclaim: 3,
  listDomains: 14,
  getDomain: 9,
  checkOperation: 4,
  getServerInfo: 40,
};
/** Chance leaves fewer than this in one run of ten thousand: the shares above are half of the usual ones. */
function isFar(rpc: Rpc, tally: FuzzTally): boolean {
  const { all, far } = tally.of(rpc);
  const least = (all * FAR[rpc]) / 100;
  return far > least - 2 * Math.sqrt(least);
}

/** The memory for a job that has ended. */
const JOB_BYTES = 4096;
const MIB = 1 << 20;

/** The memory that is in use, not what V8 and the C library keep for later: that comes and goes by hundreds of megabytes. */
async function sizeOf(service: Service): Promise<{ readonly liveMib: number; readonly descriptors: number }> {
  const descriptors = (await readdir(`/proc/${service.pid}/fd`)).length;
  return { liveMib: (await liveBytes(service)) / MIB, descriptors };
}

describe.skipIf(needs('qemu'))('any request', { timeout: TIMEOUT_MS }, () => {
  test('has a typed answer that is not a bug, and leaves nothing behind', async () => {
    console.log(`any request with seed ${SEED}; FUZZ_SEED=${SEED} FUZZ_REQUESTS=${REQUESTS} sends the same requests`);
    const tally = new FuzzTally();
    const passwords = await hashOf('/etc/passwd');
    vi.stubEnv('NODE_OPTIONS', DEBUGGED.NODE_OPTIONS);
    onTestFinished(() => void vi.unstubAllEnvs());
    await using site = await Site.open([tmpdir()], ['--log-level', 'info']);
    const { service, sockets } = site;
    await using held = new AsyncDisposableStack();
    const opening = Array.from({ length: LANES }, async () =>
      held.use(await FuzzLane.open({ service, sockets, tally })),
    );
    const lanes = await Promise.all(opening);
    let rounds = 0;
    const found: unknown[] = [];
    const inLane = async (lane: FuzzLane, until: number) => {
      try {
        while (tally.asked < until && found.length === 0) {
          rounds += 1;
          await lane.round(ROUND, SEED + 100 * rounds);
        }
      } catch (error) {
        // The service's own errors are shown at the end, beside it.
        console.error(error);
        found.push(error);
      }
    };
    const sizes: Awaited<ReturnType<typeof sizeOf>>[] = [];
    for (let part = 1; part <= PARTS; part += 1) {
      await Promise.all(lanes.map(async (lane) => await inLane(lane, (REQUESTS * part) / PARTS)));
      expect(found).toEqual([]);
      sizes.push(await sizeOf(service));
      if (REQUESTS > 100_000) console.log(`${tally.asked} asked, ${tally.begun} jobs`, sizes.at(-1));
    }
    const [first, last] = [present(sizes[WARM]), present(sizes.at(-1))];
    console.log(String(tally), first, last);
    expect(await hashOf('/etc/passwd')).toBe(passwords);
    expect(tally.bytesLoggedEach).toBeLessThan(100);
    expect(last.descriptors).toBeLessThan(first.descriptors + 5);
    expect(last.liveMib).toBeLessThan(first.liveMib + 8 + (tally.begun * JOB_BYTES) / MIB);
    expect(RPCS.filter((rpc) => !isFar(rpc, tally))).toEqual([]);
  });
});
