/** For how long somebody has not answered any question. */
export class Silence {
  #unanswered = 0;
  #sinceMs = 0;

  get ms(): number {
    return this.#unanswered === 0 ? 0 : performance.now() - this.#sinceMs;
  }

  async during<T>(question: () => Promise<T>): Promise<T> {
    if (this.#unanswered === 0) this.#sinceMs = performance.now();
    this.#unanswered += 1;
    try {
      return await question();
    } finally {
      this.#unanswered -= 1;
      this.#sinceMs = performance.now();
    }
  }
}
