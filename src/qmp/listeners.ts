// The subscribers of one kind of news: all hear all of it, in the same order.

export class Listeners<T extends object> {
  readonly #entries = new Set<{ readonly listener: (news: T) => void }>();
  readonly #onThrown: (error: unknown) => void;
  readonly #undelivered: T[] = [];
  #delivering = false;

  /** A listener that throws does not keep the news from the others; `onThrown` is called instead. */
  constructor(onThrown: (error: unknown) => void) {
    this.#onThrown = onThrown;
  }

  /** Disposing of the result ends the subscription at once, even in the middle of a delivery. */
  add(listener: (news: T) => void): Disposable {
    const entry = { listener };
    this.#entries.add(entry);
    return { [Symbol.dispose]: () => void this.#entries.delete(entry) };
  }

  /**
   * Calls all listeners before it returns. News from within a listener waits until the present news has reached
   * everyone; otherwise later listeners would hear the two in the wrong order.
   */
  emit(news: T): void {
    this.#undelivered.push(news);
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      for (let next = this.#undelivered.shift(); next !== undefined; next = this.#undelivered.shift()) {
        this.#deliver(next);
      }
    } finally {
      this.#delivering = false;
    }
  }

  #deliver(news: T): void {
    const present = [...this.#entries];
    for (const entry of present) {
      if (!this.#entries.has(entry)) continue;
      try {
        entry.listener(news);
      } catch (error) {
        this.#onThrown(error);
      }
    }
  }
}
