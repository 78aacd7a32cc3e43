/**
 * The one order of all entries of a state folder. Each takes its turn before it is written; it is told when all before it
 * are written, or have failed: who has heard of one has heard of all before.
 */
import type { Job } from '../../core/job/job.ts';
import type { ClockStamp, EntryBody, JournalEntry } from '../../core/job/journal-entry.ts';
import { Wake } from '../../lib/wake.ts';

/** An entry, and the job as it was with it. */
export interface Revision {
  readonly entry: JournalEntry;
  readonly job: Job;
}

/** Disposed of when the entry is written, or will not be. */
export interface Turn extends Disposable {
  readonly stamp: ClockStamp;
  written(revision: Revision): void;
}

interface Waiting {
  readonly at: number;
  revision: Revision | undefined;
  isOver: boolean;
}

export class EntryOrder {
  /** More is settled than before. */
  readonly changed = new Wake();
  readonly #stamp: () => ClockStamp;
  readonly #last: () => number;
  #waiting: Waiting[] = [];
  readonly #listeners = new Set<(revision: Revision) => void>();

  /** `stamp` gives a higher one each time; `last` is the highest so far, also of a service before this one. */
  constructor(stamp: () => ClockStamp, last: () => number) {
    this.#stamp = stamp;
    this.#last = last;
  }

  /** Up to here all entries are told, and none will come any more. */
  get settled(): number {
    const [first] = this.#waiting;
    return Math.max(0, first === undefined ? this.#last() : first.at - 1);
  }

  /** As settled, and later than at any call before, as long as nothing is being written. */
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

  /** Told of each entry, in order, until disposed of. */
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

/** From which something is counted: for how long it has waited for its pivot, and for how long it is remembered. */
const COUNTED: ReadonlySet<EntryBody['entry']> = new Set(['accepted', 'ready', 'refused', 'ended']);

/** What an entry says of its turn. */
export function placed({ stamp }: Turn, kind: EntryBody['entry']): Pick<JournalEntry, 'position' | 'clock'> {
  return { position: stamp.ms, ...(COUNTED.has(kind) && { clock: stamp }) };
}
