/** How many watch each job: a bound, so that no client can take all there is. */
import { fail } from '../core/errors.ts';

export class Watchers {
  readonly #limit: number;
  readonly #counts = new Map<string, number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Of all jobs. */
  get count(): number {
    return this.#counts.values().reduce((sum, one) => sum + one, 0);
  }

  /** One place, to be given back. Throws TOO_MANY_WATCHERS. */
  take(job: string): Disposable {
    const count = this.#counts.get(job) ?? 0;
    if (count >= this.#limit) fail('TOO_MANY_WATCHERS', { job, limit: this.#limit });
    this.#counts.set(job, count + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#counts.get(job) ?? 1) - 1;
        if (left === 0) this.#counts.delete(job);
        else this.#counts.set(job, left);
      },
    };
  }
}
