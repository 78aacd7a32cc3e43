/**
 * "Something may have changed: look again." A waiter names the moment of its last look, so that a change between
 * looking and waiting is never missed.
 */
import { Timer } from './timer.ts';

interface WaitOptions {
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export class Wake {
  #count = 0;
  #waiters = new Set<() => void>();
  readonly #listeners = new Set<() => void>();

  /** Calls the listener at each change, until disposed of. */
  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** The moment, to be taken before looking. */
  get now(): number {
    return this.#count;
  }

  notify(): void {
    this.#count += 1;
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const wake of waiters) wake();
    for (const listener of this.#listeners) listener();
  }

  /** Resolves when it is so, as is looked at after each change. Rejects with the signal's reason. */
  async until(isSo: () => boolean, signal?: AbortSignal): Promise<void> {
    for (;;) {
      signal?.throwIfAborted();
      if (isSo()) return;
      await this.after(this.#count, { signal });
    }
  }

  /** Resolves at the first change after `since`, when `timeoutMs` is over, or when the signal is aborted. */
  async after(since: number, { timeoutMs, signal }: WaitOptions = {}): Promise<void> {
    if (this.#count !== since || signal?.aborted === true) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiters.add(resolve);
    using _timer = timeoutMs === undefined ? undefined : new Timer(resolve, timeoutMs);
    const onAbort = () => resolve();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#waiters.delete(resolve);
    }
  }
}

/** One for all: an AbortController without a reason makes an error with its stack each time. */
const OVER = new Error('the wait is over');

export class LinkedAbort implements Disposable {
  readonly #controller = new AbortController();
  readonly signal: AbortSignal;

  constructor(outer: AbortSignal | undefined) {
    this.signal = outer === undefined ? this.#controller.signal : AbortSignal.any([outer, this.#controller.signal]);
  }

  [Symbol.dispose](): void {
    this.#controller.abort(OVER);
  }
}
