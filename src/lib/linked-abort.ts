/** A signal of its own for one wait, so that what lost the race lets go of its listeners. */
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
