/** Several iterables as one, each at the pace of the reader: of each one value waits, and no more. */
import { Wake } from './wake.ts';

export class Merged<T> implements Disposable {
  readonly #ready: { readonly value: T; readonly taken: () => void }[] = [];
  readonly #changed = new Wake();
  #failed: { readonly why: unknown } | undefined;
  #isOver = false;

  /** It has to end by itself once this is disposed of. */
  add(source: AsyncIterable<T>): void {
    this.#read(source).catch((why: unknown) => {
      this.#failed ??= { why };
      this.#changed.notify();
    });
  }

  async #read(source: AsyncIterable<T>): Promise<void> {
    for await (const value of source) {
      if (this.#isOver) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#ready.push({ value, taken: resolve });
      this.#changed.notify();
      await promise;
      if (this.#isOver) return;
    }
  }

  /** Undefined: none came in time, or the signal was aborted, or `or` has changed. Throws what a source has thrown. */
  async next(options: { readonly timeoutMs: number; readonly signal: AbortSignal }): Promise<T | undefined> {
    const before = this.#changed.now;
    if (this.#ready.length === 0 && this.#failed === undefined) await this.#changed.after(before, options);
    const next = this.#ready.shift();
    next?.taken();
    if (next === undefined && this.#failed !== undefined) throw this.#failed.why;
    return next?.value;
  }

  /** Somebody else has something to say: next() returns. */
  interrupt(): void {
    this.#changed.notify();
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const { taken } of this.#ready) taken();
  }
}
