/** One thing at a time, in the order of the calls. */
export class Lane {
  #tail: Promise<unknown> = Promise.resolve();

  /** Runs `work` when all earlier work has ended, with or without an error. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    // The next work waits for the end, not for the result.
    this.#tail = result.catch(() => undefined);
    return await result;
  }
}
