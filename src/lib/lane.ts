/** One thing at a time, in the order in which they were asked for. */
export class Lane {
  #tail: Promise<unknown> = Promise.resolve();

  /** Runs `work` when all that came before has ended, well or badly. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    // The next in the lane waits for the end, and does not care how it was.
    this.#tail = result.catch(() => undefined);
    return await result;
  }
}
