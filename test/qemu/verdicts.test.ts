/**
 * The verdict on a copy 10 seconds after its start is the truth, which is found by waiting: a real guest writes, and a
 * destination is as fast as its link. VERDICT_ROUNDS=60 runs all combinations, again and again, until so many copies
 * are judged; each has a different order of writes. It takes about an hour.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Convergence, type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { toMs } from '../../src/client/durations.ts';
import { LOOPBACK, slowExport } from '../support/images/slow-export.ts';
import { needs } from '../support/means.ts';
import { PercentTraces } from '../support/observers/percent-traces.ts';
import { MIB } from '../support/real-qemu/bench-qemu.ts';
import { Rig } from '../support/real-qemu/rig.ts';
import { byId } from '../support/service/caller.ts';

const ROUNDS = Number(process.env['VERDICT_ROUNDS'] ?? 3);
/** QEMU counts what is copied late, by a part of its buffer of 16 MiB: the disk is larger than that. */
const DISK_MIB = 64;
const DISK_BYTES = DISK_MIB * MIB;
/** Slow, so that a busy machine is not slower. */
const LINK_BYTES = 4 * MIB;
const VERDICT_MS = 10_000;
/** A copy that has copied its disk so often does not end. Those that end here copy it less than twice. */
const OFTEN = 3;
/** A copy that ends early, or whose rates change, is not judged; so many copies are begun for each that is. */
const MOST_TIMES = 4;
/** Two speeds that differ less are one. */
const STEADY = 1.4;
/** With less left, QEMU waits for a moment without dirty data, which comes by luck: no ETA knows when. */
const LITTLE_BYTES = MIB / 4;
/** A verdict needs some seconds; later ETAs are compared. */
const LEAST_LEFT_MS = 4000;

/** Settings of the guest (test/guest-rig), on that link. */
const WRITERS = {
  'random 4 KiB': 'mode=rand bs=4 rate=0.4',
  'sequential 64 KiB': 'mode=seq bs=64 rate=1',
  'random 64 KiB': 'mode=rand bs=64 rate=1.4',
  'too much random 64 KiB': 'mode=rand bs=64 rate=10',
  bursts: 'mode=rand bs=64 rate=3',
  idle: 'mode=idle',
} as const;

interface Combination {
  readonly writer: keyof typeof WRITERS;
  readonly granularityKib: 4 | 64;
  readonly isLocal: boolean;
}

const FIRST: readonly Combination[] = [
  { writer: 'random 4 KiB', granularityKib: 64, isLocal: false },
  { writer: 'random 4 KiB', granularityKib: 4, isLocal: false },
  { writer: 'sequential 64 KiB', granularityKib: 64, isLocal: false },
];
const OTHERS: readonly Combination[] = (Object.keys(WRITERS) as (keyof typeof WRITERS)[]).flatMap((writer) =>
  ([4, 64] as const).flatMap((granularityKib) => [false, true].map((isLocal) => ({ writer, granularityKib, isLocal }))),
);

interface Moment {
  readonly atMs: number;
  /** When QEMU was asked. */
  readonly sampledMs: number;
  readonly job: Job;
  /** The guest's operations so far. */
  readonly operations: number;
}

/** The guest writes for one second, and rests for two. */
async function burst(rig: Rig, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await rig.vm.command('go');
    await sleep(1000, undefined, { signal }).catch(() => undefined);
    await rig.vm.pause();
    await sleep(2000, undefined, { signal }).catch(() => undefined);
  }
  await rig.vm.command('go');
}

/** A copy as a client sees it, until it is READY or the wait is over. */
async function recorded(rig: Rig, { writer, granularityKib, isLocal }: Combination, round: number): Promise<Moment[]> {
  // Batches leave moments in which nothing is dirty.
  await rig.vm.command(`set d1 ${WRITERS[writer]} batch=16`);
  const folder = join(rig.folder, `round${round}`);
  await mkdir(folder);
  await using link = await slowExport(folder, DISK_BYTES, LINK_BYTES);
  const file = { target: { $case: 'file', value: join(folder, 'copy.raw') }, format: 1 } as const;
  const disk = { domain: 'web1', disk: rig.vm.deviceId(1) };
  const destination = isLocal ? file : link.destination;
  const { id } = await rig.service.startCopy({ disk, destination, granularityBytes: BigInt(granularityKib * 1024) });
  const [began, beganAt] = [performance.now(), Date.now()];
  const stop = new AbortController();
  const bursts = writer === 'bursts' ? burst(rig, stop.signal) : undefined;
  const moments: Moment[] = [];
  for (;;) {
    const job = await rig.service.getInfo(id);
    const atMs = performance.now() - began;
    const sampledMs = (job.progress?.sampleTime?.getTime() ?? beganAt) - beganAt;
    moments.push({ atMs, sampledMs, job, operations: rig.vm.acknowledged(1) });
    const { currentBytes = 0n } = job.progress ?? {};
    if (job.state === Job_State.STATE_READY || currentBytes > OFTEN * DISK_BYTES) break;
    await sleep(500);
  }
  stop.abort();
  await bursts;
  await rig.service.abort({ job: byId(id), force: true });
  return moments;
}

function willEnd({ progress }: Job): boolean | undefined {
  switch (progress?.convergence) {
    case Convergence.CONVERGENCE_CONVERGING:
    case Convergence.CONVERGENCE_SETTLED:
      return true;
    case Convergence.CONVERGENCE_STALLED:
    case Convergence.CONVERGENCE_DIVERGING:
      return false;
    default:
      return undefined;
  }
}

/** Whether a number grows as fast in both parts of a time. */
function isSteady(early: readonly Moment[], late: readonly Moment[], numberOf: (moment: Moment) => number): boolean {
  const [before, after] = [early, late].map((part) => {
    const [first, last] = [part[0], part.at(-1)];
    if (first === undefined || last === undefined || part.length < 4) return 0;
    return (numberOf(last) - numberOf(first)) / (last.atMs - first.atMs);
  }) as [number, number];
  return before === 0 || after === 0 || Math.max(before / after, after / before) < STEADY;
}

/**
 * Whether the copy and the guest went on as fast as they were at the time of the verdict, which is about the present
 * rates: a machine that is busy with something else changes them.
 */
function wentOn(moments: readonly Moment[]): boolean {
  const early = moments.filter(({ atMs }) => atMs > 1000 && atMs <= VERDICT_MS);
  const late = moments.filter(({ atMs }) => atMs > VERDICT_MS);
  const copied = ({ job }: Moment) => Number(job.progress?.currentBytes ?? 0n);
  return isSteady(early, late, copied) && isSteady(early, late, ({ operations }) => operations);
}

/** Whether the verdict was the truth; undefined if the copy ended before there was one. */
function judged(moments: readonly Moment[], isEnd: boolean): boolean | undefined {
  const early = moments.filter(({ atMs }) => atMs <= VERDICT_MS + 500);
  const verdict = early.map(({ job }) => willEnd(job)).findLast((one) => one !== undefined);
  return verdict === undefined ? undefined : verdict === isEnd;
}

/** How wrong the ETAs of the second half were: 1 is right. An ETA counts from its sample. */
function errorsOf(moments: readonly Moment[], endMs: number): readonly number[] {
  return moments.flatMap(({ sampledMs, job }) => {
    const [leftMs, etaMs] = [endMs - sampledMs, toMs(job.progress?.eta)];
    if (leftMs > sampledMs || leftMs < LEAST_LEFT_MS || etaMs === undefined) return [];
    if (Number(job.progress?.remainingBytes) < LITTLE_BYTES) return [];
    return [Math.max(etaMs / leftMs, leftMs / Math.max(1, etaMs))];
  });
}

function expectMonotonic(moments: readonly Moment[], wrongIn: (job: Job) => string): void {
  for (const { job } of moments) {
    expect(wrongIn(job)).toBe('');
    expect(job.progress?.percent === 100).toBe(job.state === Job_State.STATE_READY);
  }
}

describe.skipIf(needs('guest'))('a copy', () => {
  test(`says within 10 seconds whether it will end: ${ROUNDS} rounds`, { timeout: ROUNDS * 600_000 }, async () => {
    await using rig = await Rig.start({
      disks: [`id=1,fmt=raw,size=${DISK_MIB}M`],
      append: 'gw.mode=idle',
      args: ['--allow-destination', LOOPBACK],
    });
    const combinations = [...FIRST, ...OTHERS];
    // Data everywhere: QEMU copies zeroes faster, and no ETA knows where they are.
    const { qdev } = await rig.admin.block(rig.vm.deviceId(1));
    const fill = `qemu-io -d ${qdev} "write -P 85 0 ${DISK_BYTES}"`;
    await rig.admin.execute('human-monitor-command', { 'command-line': fill });
    const traces = new PercentTraces();
    let [right, wrong] = [0, 0];
    const errors: number[] = [];
    for (let round = 0; right + wrong < ROUNDS; round++) {
      if (round >= ROUNDS * MOST_TIMES) throw new Error(`${right + wrong} of ${round} copies could be judged`);
      const combination = combinations[round % combinations.length] ?? FIRST[0];
      if (combination === undefined) return;
      const moments = await recorded(rig, combination, round);
      expectMonotonic(moments, traces.begin());
      const last = moments.at(-1);
      const isEnd = last?.job.state === Job_State.STATE_READY;
      const steady = wentOn(moments);
      const isRight = steady ? judged(moments, isEnd) : undefined;
      if (isRight === true) right += 1;
      if (isRight === false) wrong += 1;
      const off = isEnd && steady ? errorsOf(moments, last.atMs) : [];
      errors.push(...off);
      const reasons = moments.map(({ job }) => job.progress?.reason ?? '').filter((one) => one !== '');
      console.log({
        ...combination,
        isEnd,
        isRight,
        endMs: last?.atMs,
        worstEta: Math.max(0, ...off),
        said: reasons.at(-1),
      });
    }
    const good = errors.filter((error) => error < 1.5).length;
    console.log(`${right} right, ${wrong} wrong; ${good} of ${errors.length} ETAs within a factor of 1.5`);
    console.log(`${traces.count} traces of the percentage`);
    expect(right / (right + wrong)).toBeGreaterThanOrEqual(0.95);
    // The machine may be busy with something else at the moment of a look or two.
    expect(errors.length - good).toBeLessThanOrEqual(Math.max(2, errors.length / 10));
  });
});
