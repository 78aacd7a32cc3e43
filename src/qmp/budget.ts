// How many bytes the peers of all monitors may make us hold together.
//
// Each may have its least, which is more than a QEMU says in one message. What is beyond that comes from one store for
// all. A connection counts with the longest message that it has had, as that may be held still, read into objects.
// When the store is empty, whoever has taken most of it is ended, and not who asks next: a QEMU that has much to say once
// is not kept out by one that has filled the store before.

/** Of one connection. */
export interface Share {
  /** It has, or has had, so many bytes of a message. May end it, or others. */
  readonly hold: (bytes: number) => void;
  readonly leave: () => void;
}

export interface BudgetLimits {
  /** 1 MiB unless told. */
  readonly leastBytes?: number;
  /** 32 MiB unless told. */
  readonly storeBytes?: number;
}

export class Budget {
  readonly #leastBytes: number;
  readonly #storeBytes: number;
  /** Who has something of the store → how much. */
  readonly #taken = new Map<(why: string) => void, number>();
  #takenBytes = 0;

  constructor({ leastBytes = 1024 * 1024, storeBytes = 32 * 1024 * 1024 }: BudgetLimits = {}) {
    this.#leastBytes = leastBytes;
    this.#storeBytes = storeBytes;
  }

  /** `end`: called at most once, when there is not enough for all and this one has most; its share is left by then. */
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
    end(`all monitors together have more to say than ${this.#storeBytes} bytes, and of these it has most: ${bytes}`);
  }

  #leave(end: (why: string) => void): void {
    this.#takenBytes -= this.#taken.get(end) ?? 0;
    this.#taken.delete(end);
  }
}
