/**
 * The one order of all entries of a state folder. An entry takes its turn before it is written. It is announced when
 * all earlier entries are written or have failed, so a listener that has heard an entry has heard all earlier ones.
 */
import { advance, begin, type Job } from '../../core/job/job.ts';
import type { ClockStamp, EntryBody, JournalEntry } from '../../core/job/journal-entry.ts';
import { Wake } from '../../lib/wake.ts';

/** An entry, and the state of its job after it. */
export interface Revision {
  readonly entry: JournalEntry;
  readonly job: Job;
}

/** Disposed of when the entry is written, or will not be. */
export interface Turn extends Disposable {
  readonly stamp: ClockStamp;
  written(revision: Revision): void;
}

/** For the entries of a whole journal. */
export function revisionsOf([first, ...rest]: readonly [JournalEntry, ...JournalEntry[]]): [Revision, ...Revision[]] {
  let job = begin(first);
  const revisions: [Revision, ...Revision[]] = [{ entry: first, job }];
  for (const entry of rest) {
    job = advance(job, entry);
    revisions.push({ entry, job });
  }
  return revisions;
}

interface Waiting {
  readonly at: number;
  revision: Revision | undefined;
  isOver: boolean;
}

export class EntryOrder {
  /** Notified when more entries are settled. */
  readonly changed = new Wake();
  readonly #stamp: () => ClockStamp;
  readonly #last: () => number;
  #waiting: Waiting[] = [];
  readonly #listeners = new Set<(revision: Revision) => void>();

  /** `stamp` returns a higher number each time. `last` is the highest number so far, of earlier services too. */
  constructor(stamp: () => ClockStamp, last: () => number) {
    this.#stamp = stamp;
    this.#last = last;
  }

  /** All entries up to this position are announced, and no more will come. */
  get settled(): number {
    const [first] = this.#waiting;
    return Math.max(0, first === undefined ? this.#last() : first.at - 1);
  }

  /** Returns `settled`. While nothing is being written, each call returns a later position. */
  mark(): number {
    if (this.#waiting.length === 0) this.#stamp();
    return this.settled;
  }

  enter(): Turn {
    const stamp = this.#stamp();
    const one: Waiting = { at: stamp.ms, revision: undefined, isOver: false };
    this.#waiting.push(one);
    return {
      stamp,
      written: (revision) => {
        one.revision = revision;
      },
      [Symbol.dispose]: () => {
        one.isOver = true;
        this.#settle();
      },
    };
  }

  /** Calls the listener for each entry, in order, until disposed of. */
  onEntry(listener: (revision: Revision) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  async untilSettled(at: number, signal: AbortSignal): Promise<void> {
    while (this.settled < at && !signal.aborted) await this.changed.after(this.changed.now, { signal });
  }

  #settle(): void {
    const before = this.#waiting.length;
    for (let [first] = this.#waiting; first?.isOver === true; [first] = this.#waiting) {
      this.#waiting.shift();
      const { revision } = first;
      if (revision !== undefined) for (const listener of this.#listeners) listener(revision);
    }
    if (this.#waiting.length < before) this.changed.notify();
  }
}

/** The entries that start a count: of the wait for a pivot, of the time of a throttle, or of the time that the job is remembered. */
const COUNTED: ReadonlySet<EntryBody['entry']> = new Set([
  'accepted',
  'ready',
  'throttle-requested',
  'refused',
  'ended',
]);

/** The fields of an entry that record its turn. */
export function placed({ stamp }: Turn, kind: EntryBody['entry']): Pick<JournalEntry, 'position' | 'clock'> {
  return { position: stamp.ms, ...(COUNTED.has(kind) && { clock: stamp }) };
}
