/** The verdict on a job, compared with the end that a simulated mirror really has. */
import { describe, expect, it } from 'vitest';
import { etaMs, isVerdictNews, NO_COURSE, type Point, proceed, willEnd } from '../../../../src/core/job/convergence.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

interface Writer {
  /** Bytes a second, at a moment. */
  readonly rate: (seconds: number) => number;
  readonly writeBytes: number;
  readonly order: 'random' | 'sequential';
}

interface Mirror {
  readonly sizeBytes: number;
  readonly granularityBytes: number;
  readonly copyRate: number;
  readonly writer: Writer;
  readonly limit?: number;
}

const steady = (rate: number) => () => rate;
const STEP_S = 0.02;

/** A disk, its dirty bitmap, a mirror that goes round it, and a guest: as QEMU counts them, and when it becomes READY. */
function run({ sizeBytes, granularityBytes, copyRate, writer, limit = 0 }: Mirror, forS: number) {
  const count = sizeBytes / granularityBytes;
  const dirty = new Uint8Array(count).fill(1);
  let [left, at, copied, credit, seed, position] = [count, 0, 0, 0, 12_345, 0];
  let [operations, owed] = [0, 0];
  let readyAtS = Infinity;
  const points: Point[] = [];
  const random = () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return seed / 0x8000_0000;
  };
  const places = sizeBytes / writer.writeBytes;
  const write = () => {
    const place = writer.order === 'random' ? Math.floor(random() * places) : position++ % places;
    const from = Math.floor((place * writer.writeBytes) / granularityBytes);
    const to = Math.ceil(((place + 1) * writer.writeBytes) / granularityBytes);
    for (let one = from; one < to; one++) {
      if (dirty[one] === 0) left += 1;
      dirty[one] = 1;
    }
    operations += 1;
  };
  for (let step = 0; step * STEP_S <= forS; step++) {
    const seconds = step * STEP_S;
    if (left === 0) {
      readyAtS = seconds;
      break;
    }
    if (step % (2 / STEP_S) === 0) {
      points.push({
        atMs: seconds * 1000,
        offsetBytes: copied,
        lengthBytes: copied + left * granularityBytes,
        ready: false,
        guest: { operations, bytes: operations * writer.writeBytes },
        granularityBytes,
        limitBytesPerSecond: limit,
      });
    }
    for (owed += writer.rate(seconds) * STEP_S; owed >= writer.writeBytes; owed -= writer.writeBytes) write();
    for (credit += copyRate * STEP_S; credit >= granularityBytes && left > 0; credit -= granularityBytes) {
      while (dirty[at] === 0) at = (at + 1) % count;
      dirty[at] = 0;
      left -= 1;
      copied += granularityBytes;
    }
    credit = Math.min(credit, granularityBytes);
  }
  return { points, readyAtS };
}

const WRITERS: Readonly<Record<string, Writer>> = {
  '2 MiB/s of random 4 KiB': { rate: steady(2 * MIB), writeBytes: 4 * KIB, order: 'random' },
  '25 MiB/s of random 64 KiB': { rate: steady(25 * MIB), writeBytes: 64 * KIB, order: 'random' },
  '12 MiB/s of random 64 KiB': { rate: steady(12 * MIB), writeBytes: 64 * KIB, order: 'random' },
  '6 MiB/s of sequential 4 KiB': { rate: steady(6 * MIB), writeBytes: 4 * KIB, order: 'sequential' },
  '30 MiB/s of sequential 128 KiB': { rate: steady(30 * MIB), writeBytes: 128 * KIB, order: 'sequential' },
  'bursts of 30 MiB/s, 1 s of 5': {
    rate: (seconds) => (seconds % 5 < 1 ? 30 * MIB : 0),
    writeBytes: 64 * KIB,
    order: 'random',
  },
  'no writes': { rate: steady(0), writeBytes: 4 * KIB, order: 'random' },
};

const CASES = Object.entries(WRITERS).flatMap(([writes, writer]) =>
  [4 * KIB, 64 * KIB].flatMap((granularityBytes) =>
    [10, 20].map((mibPerSecond) => ({ writes, writer, granularityBytes, mibPerSecond })),
  ),
);

describe('the verdict 10 seconds after the start is the truth, and then the ETA, within a factor of 1.5', () => {
  it.each(CASES)('$writes, granules of $granularityBytes, $mibPerSecond MiB/s', (one) => {
    const { points, readyAtS } = run({ ...one, sizeBytes: 256 * MIB, copyRate: one.mibPerSecond * MIB }, 120);
    const [verdicts, ratios]: [unknown[], number[]] = [[], []];
    let course = NO_COURSE;
    for (const point of points.filter(({ atMs }) => atMs < readyAtS * 1000)) {
      course = proceed(course, point);
      const leftMs = readyAtS * 1000 - point.atMs;
      if (course.verdict === undefined) continue;
      if (point.atMs === 10_000 || leftMs < 2000) verdicts.push(willEnd(course.verdict));
      if (leftMs > point.atMs || leftMs < 5000) continue;
      const ratio = (etaMs(course.verdict, point.lengthBytes - point.offsetBytes) ?? Infinity) / leftMs;
      ratios.push(Math.max(ratio, 1 / ratio));
    }
    expect(verdicts).not.toHaveLength(0);
    expect(new Set(verdicts)).toEqual(new Set([readyAtS < Infinity]));
    expect(Math.max(1, ...ratios)).toBeLessThan(1.5);
  });
});

/** QEMU's counters at a moment, in MiB. */
const at = (seconds: number, offset: number, left: number, more: Partial<Point> = {}): Point => ({
  atMs: seconds * 1000,
  offsetBytes: offset * MIB,
  lengthBytes: (offset + left) * MIB,
  ready: false,
  guest: { operations: 0, bytes: 0 },
  granularityBytes: 64 * KIB,
  limitBytesPerSecond: 0,
  ...more,
});

const verdictOn = (points: readonly Point[]) => points.reduce(proceed, NO_COURSE).verdict;
const written = (mib: number) => ({ guest: { operations: mib * 16, bytes: mib * MIB } });

const atLimit = (limit: number) =>
  [0, 2, 4].map((seconds) =>
    at(seconds, seconds * 20, 1000 - seconds * 20, { ...written(seconds * 40), limitBytesPerSecond: limit * MIB }),
  );

const calm = [at(0, 0, 1000), at(2, 40, 960), at(4, 80, 920)];
const ready = (left: number) => [...calm, at(6, 110, left, { ready: true }), at(8, 150, left, { ready: true })];

describe('a verdict', () => {
  it('is not known before two windows, nor while QEMU reports no amount', () => {
    expect(verdictOn([at(0, 0, 1000), at(2, 20, 980)])).toBeUndefined();
    expect(verdictOn([at(0, 0, 0), at(2, 0, 0), at(4, 0, 0), at(6, 0, 1000), at(8, 20, 980)])).toBeUndefined();
  });

  it('does not count looks that are closer than a window', () => {
    expect(verdictOn([at(0, 0, 1000), at(0.5, 5, 995), at(1, 10, 990), at(2, 20, 980)])).toBeUndefined();
  });

  const storm = [at(6, 120, 960, written(400)), at(8, 160, 1000, written(800)), at(10, 200, 1040, written(1200))];

  it('changes when two windows agree, and not before', () => {
    expect(verdictOn(calm)).toMatchObject({ convergence: 'CONVERGING', because: 'ENDS', floorBytes: 0 });
    expect(verdictOn([...calm, ...storm.slice(0, 1)])?.convergence).toBe('CONVERGING');
    expect(verdictOn([...calm, ...storm.slice(0, 2)])).toMatchObject({ because: 'GUEST' });
  });

  it('of a pull or a commit is about what is left alone, and its ETA is linear', () => {
    const points = calm.map((point) => ({ ...point, guest: undefined }));
    const verdict = verdictOn(points);
    expect(verdict).toMatchObject({ convergence: 'CONVERGING', demandBytesPerSecond: 0 });
    expect(verdict && etaMs(verdict, 920 * MIB)).toBe(46_000);
  });

  it('of a copy that copies nothing says so', () => {
    expect(verdictOn([at(0, 5, 1000), at(2, 5, 1000), at(4, 5, 1000)])).toMatchObject({
      convergence: 'STALLED',
      because: 'NOTHING_COPIED',
    });
  });

  it('blames the own limit of a job if that is what holds it back', () => {
    expect(verdictOn(atLimit(20))).toMatchObject({ convergence: 'STALLED', because: 'LIMIT' });
    expect(verdictOn(atLimit(100))).toMatchObject({ convergence: 'STALLED', because: 'GUEST' });
  });

  it('takes a low limit for the speed, because QEMU copies a buffer at once', () => {
    const limitBytesPerSecond = MIB;
    const bursts = [at(0, 0, 1000, { limitBytesPerSecond }), at(2, 16, 984, { limitBytesPerSecond })];
    const quiet = [4, 6, 8, 10].map((seconds) => at(seconds, 16, 984, { limitBytesPerSecond }));
    const verdict = verdictOn([...bursts, ...quiet]);
    expect(verdict).toMatchObject({ convergence: 'CONVERGING', bytesPerSecond: MIB });
    expect(verdict && etaMs(verdict, 984 * MIB)).toBe(984_000);
  });

  it('begins again after another limit', () => {
    const limitBytesPerSecond = 5 * MIB;
    const slower = [6, 8].map((seconds) => at(seconds, 80, 920, { limitBytesPerSecond }));
    expect([...calm, ...slower].reduce(proceed, NO_COURSE).points).toHaveLength(2);
  });

  it('of a READY copy is SETTLED only if the rest is gone within a second', () => {
    expect(verdictOn(ready(1))?.convergence).toBe('SETTLED');
    expect(verdictOn(ready(100))?.convergence).toBe('CONVERGING');
  });

  it('of a copy that has caught up, and finds no moment without dirty data, is that it ends', () => {
    // It copies what the guest writes, and could copy more.
    const follow = Array.from({ length: 12 }, (_, index) => at(6 + index * 2, 120 + index, 0.02, written(1 + index)));
    const points = [at(0, 0, 120), at(2, 40, 80), at(4, 80, 40), ...follow];
    expect(verdictOn(points)).toMatchObject({ convergence: 'CONVERGING', because: 'ENDS', floorBytes: 0 });
  });

  it('of a READY copy whose rest grows is DIVERGING', () => {
    const follow = Array.from({ length: 8 }, (_, index) =>
      at(6 + index * 2, 120 + index * 40, 10 + index * 30, { ready: true, ...written(index * 70) }),
    );
    expect(verdictOn([...calm, ...follow])).toMatchObject({ convergence: 'DIVERGING', because: 'GUEST' });
  });
});

describe('the journal gets a verdict', () => {
  const [ends, stalls] = [
    verdictOn([at(0, 0, 9), at(2, 4, 5), at(4, 8, 1)]),
    verdictOn([0, 2, 4].map((s) => at(s, 5, 9))),
  ];

  it.each([
    ['a job ends, as is expected', ends, undefined, false],
    ['it does not', stalls, undefined, true],
    ['it still does not', stalls, stalls, false],
    ['it ends again', ends, stalls, true],
  ] as const)('%s: %#', (_what, now, before, isWritten) => {
    if (now === undefined) throw new Error('there is no verdict');
    expect(isVerdictNews(now, before, { verdicts: before === undefined ? 0 : 1, sinceMs: 60_000 })).toBe(isWritten);
  });

  it('the later, the more of them there are: a guest whose writes come and go does not fill it', () => {
    if (stalls === undefined) throw new Error('there is no verdict');
    expect(isVerdictNews(stalls, undefined, { verdicts: 6, sinceMs: 59_000 })).toBe(false);
    expect(isVerdictNews(stalls, undefined, { verdicts: 6, sinceMs: 60_000 })).toBe(true);
  });
});
