/**
 * Keeps other actions away while QEMU formats an image: QEMU before 10.0 crashes if others look at its nodes, stop it
 * or take a snapshot in these milliseconds (docs/versions.md). Other tests check that the service keeps away. Here the
 * test keeps its own other clients away.
 */
import { Wake } from '../../src/lib/wake.ts';

export class FormatTurns {
  readonly #wake = new Wake();
  #formats = 0;
  #others = 0;
  #isApart = false;

  /** A new image is formatted in `work`. */
  async formatting<T>(work: () => Promise<T>): Promise<T> {
    await this.#until(() => this.#others === 0);
    this.#formats += 1;
    try {
      return await work();
    } finally {
      this.#formats -= 1;
      this.#wake.notify();
    }
  }

  /** `work` is an action of another client. */
  async apart<T>(work: () => Promise<T>): Promise<T> {
    this.#others += 1;
    try {
      await this.#until(() => this.#formats === 0 && !this.#isApart);
      this.#isApart = true;
      return await work().finally(() => {
        this.#isApart = false;
      });
    } finally {
      this.#others -= 1;
      this.#wake.notify();
    }
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await this.#wake.after(this.#wake.now);
  }
}
