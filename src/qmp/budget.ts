// The bytes that the peers of all monitors may make us hold together.
//
// Each connection has a minimum, which is more than one message of a QEMU. The rest comes from one store for all. A
// connection counts with its longest message so far, because that may still be held, read into objects. When the store
// is empty the connection with the largest share is ended, not the next one that needs some: a QEMU with one long message
// is not kept out by one that has filled the store before.

/** The use by one connection. */
export interface Share {
  /** It has, or had, so many bytes of a message. May end it, or others. */
  readonly hold: (bytes: number) => void;
  readonly leave: () => void;
}

export interface BudgetLimits {
  /** Default: 1 MiB. */
  readonly leastBytes?: number;
  /** Default: 32 MiB. */
  readonly storeBytes?: number;
}

export class Budget {
  readonly #leastBytes: number;
  readonly #storeBytes: number;
  /** Each user of the store, with its amount. */
  readonly #taken = new Map<(why: string) => void, number>();
  #takenBytes = 0;

  constructor({ leastBytes = 1024 * 1024, storeBytes = 32 * 1024 * 1024 }: BudgetLimits = {}) {
    this.#leastBytes = leastBytes;
    this.#storeBytes = storeBytes;
  }

  /** `end`: called at most once, if there is not enough for all and this user has most; its share is already free then. */
  join(end: (why: string) => void): Share {
    return {
      hold: (bytes) => this.#hold(end, bytes - this.#leastBytes),
      leave: () => this.#leave(end),
    };
  }

  #hold(end: (why: string) => void, bytes: number): void {
    const before = this.#taken.get(end) ?? 0;
    if (bytes <= before) return;
    this.#taken.set(end, bytes);
    this.#takenBytes += bytes - before;
    while (this.#takenBytes > this.#storeBytes) this.#endLargest();
  }

  #endLargest(): void {
    const [largest] = [...this.#taken].toSorted(([, one], [, other]) => other - one);
    if (largest === undefined) return;
    const [end, bytes] = largest;
    this.#leave(end);
    end(`all monitors together exceed ${this.#storeBytes} bytes, and its share is the largest: ${bytes}`);
  }

  #leave(end: (why: string) => void): void {
    this.#takenBytes -= this.#taken.get(end) ?? 0;
    this.#taken.delete(end);
  }
}
