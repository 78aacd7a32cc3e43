/** Many cases of one test: all are tried, and the test reports each that failed. */
import { setTimeout as delay } from 'node:timers/promises';

/** A case takes less than a second. One that takes so long waits for something that never comes. */
const LIMIT_MS = 120_000;

export class Cases {
  /** In words; it must stay empty. */
  readonly wrong: string[] = [];

  /**
   * Throws if the case has not ended in time, with its name and what is then left of it: the next case would find a
   * world that this one still changes.
   */
  async try(name: string, work: () => Promise<void>, left: () => string = () => ''): Promise<void> {
    const over = new AbortController();
    const tooLong = delay(LIMIT_MS, undefined, { signal: over.signal }).then(
      () => {
        const wrong = `${name}: has not ended after ${LIMIT_MS} ms. ${left()}`;
        // The end of the test waits for the case.
        console.error(wrong);
        throw new Error(wrong);
      },
      () => undefined,
    );
    const ended = work()
      .catch((error: unknown) => void this.wrong.push(`${name}: ${String(error)}`))
      .finally(() => over.abort());
    await Promise.race([ended, tooLong]);
  }
}
