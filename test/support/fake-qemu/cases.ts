/** Many cases of one test: all are tried, and the test reports each that failed. */
import { within } from '../real-qemu/qemu.ts';

/** A case takes less than a second. One that takes so long waits for something that never comes. */
const LIMIT_MS = 120_000;

export class Cases {
  /** In words; it must stay empty. */
  readonly wrong: string[] = [];
  readonly #left: () => string;

  /** `left`: the state of the world, for a case that does not end. */
  constructor(left: () => string) {
    this.#left = left;
  }

  /** Throws if the case does not end in time: the next case would find a world that this one still changes. */
  async try(name: string, work: () => Promise<void>): Promise<void> {
    const ended = work().catch((error: unknown) => void this.wrong.push(`${name}: ${String(error)}`));
    await within(LIMIT_MS, name, ended).catch((error: unknown) => {
      // The end of the test waits for the case.
      console.error(String(error), this.#left());
      throw error;
    });
  }
}
