/**
 * "Something may have changed: look again." A waiter names the moment of its last look, so that a change between
 * looking and waiting is never missed.
 */
import { Timer } from './timer.ts';

export class Wake {
  #count = 0;
  #waiters: (() => void)[] = [];
  readonly #also: (() => void) | undefined;

  /** `also` is told of each change, too. */
  constructor(also?: () => void) {
    this.#also = also;
  }

  /** The moment, to be taken before looking. */
  get now(): number {
    return this.#count;
  }

  notify(): void {
    this.#count += 1;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
    this.#also?.();
  }

  /** Resolves at the first change after `since`, when `timeoutMs` is over, or when the signal is aborted. */
  async after(since: number, options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<void> {
    const { timeoutMs, signal } = options;
    if (this.#count !== since || signal?.aborted === true) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiters.push(resolve);
    using _timer = timeoutMs === undefined ? undefined : new Timer(resolve, timeoutMs);
    const onAbort = () => resolve();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#waiters = this.#waiters.filter((waiter) => waiter !== resolve);
    }
  }
}
