/** A signal for one wait, so that the losers of a race release their listeners. */
export class LinkedAbort implements Disposable {
  readonly #controller = new AbortController();
  readonly signal: AbortSignal;

  constructor(outer: AbortSignal | undefined) {
    this.signal = outer === undefined ? this.#controller.signal : AbortSignal.any([outer, this.#controller.signal]);
  }

  [Symbol.dispose](): void {
    this.#controller.abort();
  }
}
