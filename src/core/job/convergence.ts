/**
 * Whether a job will end, from what QEMU counts. A mirror that copies C bytes a second, while the guest would dirty W
 * bytes a second if everything was clean, has R bytes left of S bytes that are written:
 *
 *     dR/dt = W (1 - R/S) - C        a write into a part that is still dirty costs nothing
 *     floor = S (1 - C/W)            R does not fall below it; with W < C it is below zero, and the job ends
 *     ETA   = S/W ln(1 - R/floor)    with W < C
 *
 * The time is divided into windows. One window says little: a verdict changes when two windows agree.
 */

export type Convergence =
  /** The remaining bytes will be gone. */
  | 'CONVERGING'
  /** They will not, and stay about the same or fall to a floor above zero. Also: the job is paused. */
  | 'STALLED'
  /** They will not, and increase. */
  | 'DIVERGING'
  /** READY, and the remaining bytes are gone within a second. */
  | 'SETTLED';

export type Because =
  | 'ENDS'
  /** The guest dirties more than the job copies. */
  | 'GUEST'
  /** So it does, and the job copies as much as its own limit allows. */
  | 'LIMIT'
  /** Nothing was copied: the storage does not answer. */
  | 'NOTHING_COPIED';

/** A verdict, with its numbers. */
export interface EndVerdict {
  readonly convergence: Convergence;
  readonly because: Because;
  /** C, the speed of the job. */
  readonly bytesPerSecond: number;
  /** W, the guest's demand. 0 if its writes do not matter to the job. */
  readonly demandBytesPerSecond: number;
  /** The guest's writes, and the mean size of one. */
  readonly guestBytesPerSecond: number;
  readonly guestWriteBytes: number;
  /** The unit in which the job notes what is dirty. */
  readonly granularityBytes: number;
  /** S. */
  readonly dataBytes: number;
  readonly remainingBytes: number;
  /** The remaining bytes do not fall below it. 0 if the job ends, or if that is not known. */
  readonly floorBytes: number;
}

/** The end of a window: QEMU's counters at one moment. */
export interface Point {
  /** On a monotonic clock. */
  readonly atMs: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly ready: boolean;
  /** The guest's writes since QEMU began. Undefined if they do not add to the work: a pull, a commit, write mode BLOCKING. */
  readonly guest: { readonly operations: number; readonly bytes: number } | undefined;
  readonly granularityBytes: number;
  /** The job's own limit; 0 for none. */
  readonly limitBytesPerSecond: number;
}

/** The data for the verdict on a job, one object for each job. */
export interface Course {
  readonly points: readonly Point[];
  readonly dataBytes: number;
  /** The highest speed, as far as it was seen: a job that has caught up copies less. */
  readonly ableBytesPerSecond: number;
  readonly verdict: EndVerdict | undefined;
  /** Since how many windows another verdict is due. */
  readonly otherFor: number;
}

export const NO_COURSE: Course = { points: [], dataBytes: 0, ableBytesPerSecond: 0, verdict: undefined, otherFor: 0 };

/** The service looks this often; a call's look in between ends no window. */
export const LOOK_MS = 2000;
const WINDOWS_AGREE = 2;
/** The rates cover this time … */
const COVER_MS = 10_000;
/** … and with a limit so many bytes, because QEMU copies a buffer at once, and then waits for the next one … */
const COVER_BYTES = 2 * 16_777_216;
/** … but not more than this time. */
const COVER_AT_MOST_MS = 60_000;
/** A copy that has more to do than this, at each look, copies as fast as it can. */
const BUSY_BYTES = 4 * 1_048_576;
/** The least amount that a guest's file system writes. */
const SECTOR_BYTES = 4096;
/** A job that copies this part of its limit, or more, is held back by the limit. */
const NEAR_LIMIT = 0.7;
/** A difference of so many standard deviations is not by chance. */
const CHANCE = 4;
/** Writes that follow each other dirty what they write, and granules at their edges. */
const FOLLOWS = 1.25;

/** The course after one more point. Points that are closer than a window are ignored. */
export function proceed(course: Course, point: Point): Course {
  const before = course.points.at(-1);
  if (before !== undefined && point.atMs - before.atMs < LOOK_MS * 0.75) return course;
  // Before QEMU has looked at the disk it reports 0 of 0. Another limit or write mode begins another course.
  const isOtherMode = (before?.guest === undefined) !== (point.guest === undefined);
  const isOther = before?.lengthBytes === 0 || isOtherMode || before?.limitBytesPerSecond !== point.limitBytesPerSecond;
  const points = isOther ? [point] : covered([...course.points, point]);
  const dataBytes = Math.max(course.dataBytes, course.dataBytes === 0 ? point.lengthBytes : 0, restOf(point));
  const found = measured(points, { ...course, dataBytes });
  if (found === undefined) return { ...course, points, dataBytes };
  return { points, dataBytes, ableBytesPerSecond: found.ableBytesPerSecond, ...agreed(course, found.verdict) };
}

/** The time until nothing remains, in milliseconds; undefined if the verdict is another one. */
export function etaMs({ convergence, ...verdict }: EndVerdict, remainingBytes: number): number | undefined {
  if (convergence === 'SETTLED') return 0;
  if (convergence !== 'CONVERGING') return undefined;
  const { bytesPerSecond: able, demandBytesPerSecond: demand, dataBytes } = verdict;
  const seconds =
    demand < able / 1000
      ? remainingBytes / able
      : (dataBytes / demand) * Math.log1p(remainingBytes / (dataBytes * (able / demand - 1)));
  return Math.ceil(seconds * 1000);
}

/** Whether a job with this verdict ends, or keeps in step, without a change. */
export function willEnd({ because }: Pick<EndVerdict, 'because'>): boolean {
  return because === 'ENDS';
}

/**
 * Whether a verdict is written down, so many verdicts and so much time after the last one. A job is expected to end. A
 * guest whose writes come and go must not fill the journal: each verdict has to stand longer than the one before.
 */
export function isVerdictNews(
  now: EndVerdict,
  before: EndVerdict | undefined,
  { verdicts, sinceMs }: { readonly verdicts: number; readonly sinceMs: number },
): boolean {
  if (sinceMs < verdicts * COVER_MS) return false;
  return willEnd(now) ? before !== undefined && !willEnd(before) : now.convergence !== before?.convergence;
}

const restOf = ({ lengthBytes, offsetBytes }: Point) => Math.max(0, lengthBytes - offsetBytes);

/** The last points that cover enough. */
function covered(points: readonly Point[]): readonly Point[] {
  const last = points.at(-1);
  const isEnough = ({ atMs, offsetBytes }: Point) => {
    const overMs = (last?.atMs ?? 0) - atMs;
    const isMuch = last?.limitBytesPerSecond === 0 || (last?.offsetBytes ?? 0) - offsetBytes >= COVER_BYTES;
    return (overMs >= COVER_MS && isMuch) || overMs >= COVER_AT_MOST_MS;
  };
  return points.slice(Math.max(0, points.findLastIndex(isEnough)));
}

/** The verdict of these points alone. Undefined before two windows. */
function measured(
  points: readonly Point[],
  { dataBytes, ableBytesPerSecond: ableBefore }: Pick<Course, 'dataBytes' | 'ableBytesPerSecond'>,
): (Pick<Course, 'ableBytesPerSecond'> & { readonly verdict: EndVerdict }) | undefined {
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined || points.length <= WINDOWS_AGREE) return undefined;
  const seconds = (last.atMs - first.atMs) / 1000;
  const { limitBytesPerSecond: limit } = last;
  // A shorter time does not show what a job with a limit copies.
  const isLong = limit === 0 || seconds * limit >= COVER_BYTES;
  const copied = isLong ? Math.max(0, last.offsetBytes - first.offsetBytes) / seconds : limit;
  // One that has caught up copies what the guest writes, also before QEMU has found a moment without dirty data.
  const isBusy = points.slice(-1 - WINDOWS_AGREE).every((one) => restOf(one) > BUSY_BYTES);
  const able = isBusy ? copied : Math.max(ableBefore, copied);
  const guest = demandOf(points, dataBytes);
  const remainingBytes = restOf(last);
  const numbers = {
    // In write mode BLOCKING the guest's own writes are copied, too; only the rest is the job's progress.
    bytesPerSecond: Math.round(
      guest === undefined && isLong ? Math.max(0, restOf(first) - remainingBytes) / seconds : able,
    ),
    demandBytesPerSecond: Math.round((guest?.demandBytes ?? 0) / seconds),
    guestBytesPerSecond: Math.round((guest?.bytes ?? 0) / seconds),
    guestWriteBytes: Math.round(guest?.writeBytes ?? 0),
    granularityBytes: last.granularityBytes,
    dataBytes,
    remainingBytes,
  };
  const isRising = remainingBytes > restOf(first);
  return { ableBytesPerSecond: able, verdict: judged(numbers, { isReady: last.ready, isRising, copied, limit }) };
}

function judged(
  numbers: Omit<EndVerdict, 'convergence' | 'because' | 'floorBytes'>,
  { isReady, isRising, copied, limit }: { isReady: boolean; isRising: boolean; copied: number; limit: number },
): EndVerdict {
  const { bytesPerSecond, demandBytesPerSecond: demand, dataBytes, remainingBytes } = numbers;
  const ends = { ...numbers, because: 'ENDS', floorBytes: 0 } as const;
  if (isReady && remainingBytes <= bytesPerSecond) return { ...ends, convergence: 'SETTLED' };
  if (copied === 0) return { ...ends, convergence: 'STALLED', because: 'NOTHING_COPIED' };
  if (demand < bytesPerSecond) return { ...ends, convergence: 'CONVERGING' };
  const floorBytes = demand === 0 ? 0 : Math.round(dataBytes * (1 - bytesPerSecond / demand));
  const because = limit > 0 && copied >= limit * NEAR_LIMIT ? 'LIMIT' : 'GUEST';
  const convergence = isRising && remainingBytes < floorBytes ? 'DIVERGING' : 'STALLED';
  return { ...numbers, convergence, because, floorBytes };
}

/**
 * The guest's demand in these windows. QEMU counts its writes, and not where they are. If each of them is somewhere
 * else, it dirties whole granules; if they follow each other, only what it writes. The growth of QEMU's total shows
 * which, as soon as enough is clean.
 */
function demandOf(points: readonly Point[], dataBytes: number) {
  const [first, last] = [points[0], points.at(-1)];
  if (first?.guest === undefined || last?.guest === undefined) return undefined;
  const operations = Math.max(0, last.guest.operations - first.guest.operations);
  const bytes = Math.max(0, last.guest.bytes - first.guest.bytes);
  if (operations === 0) return { demandBytes: 0, bytes: 0, writeBytes: 0 };
  const writeBytes = bytes / operations;
  const { granularityBytes } = last;
  const unit = Math.max(1, Math.ceil(writeBytes / granularityBytes)) * granularityBytes;
  const scattered = operations * unit;
  const found = Math.max(0, last.lengthBytes - first.lengthBytes);
  const expected = points.slice(1).reduce((sum, point, at) => {
    const before = points[at] ?? point;
    const cleanPart = 1 - (restOf(before) + restOf(point)) / 2 / dataBytes;
    return sum + Math.max(0, (point.guest?.operations ?? 0) - (before.guest?.operations ?? 0)) * unit * cleanPart;
  }, 0);
  const isOther = Math.abs(found - expected) > CHANCE * Math.sqrt((expected + unit) * unit);
  if (isOther && found <= bytes * FOLLOWS) return { demandBytes: bytes, bytes, writeBytes };
  // A write that does not begin where a granule begins is in one more.
  const most = (writeBytes + granularityBytes - Math.min(writeBytes, SECTOR_BYTES)) / unit;
  const part = isOther ? Math.min(Math.max(1, most), found / expected) : 1;
  return { demandBytes: Math.max(bytes, scattered * part), bytes, writeBytes };
}

/** The verdict changes when windows agree. To be in step is a fact. */
function agreed({ verdict: before, otherFor }: Course, now: EndVerdict): Pick<Course, 'verdict' | 'otherFor'> {
  const isSame = before === undefined || before.convergence === now.convergence;
  const hasCaughtUp = before?.convergence === 'CONVERGING' && now.convergence === 'SETTLED';
  if (isSame || hasCaughtUp || otherFor + 1 >= WINDOWS_AGREE) return { verdict: now, otherFor: 0 };
  return { verdict: before, otherFor: otherFor + 1 };
}
