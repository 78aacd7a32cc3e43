/**
 * The folder in which a start has made its file. It is held until the start is over: so the file is found there again, and
 * removed, also where the folder has another name by then.
 */
import type { PinnedFolder } from '../host/pinned-folder.ts';

export class MadeIn implements AsyncDisposable {
  #folder: PinnedFolder | undefined;

  /** Undefined: nothing was made by this process, or the start is over. */
  get folder(): PinnedFolder | undefined {
    return this.#folder;
  }

  async keep(folder: PinnedFolder): Promise<void> {
    await this[Symbol.asyncDispose]();
    this.#folder = folder;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const folder = this.#folder;
    this.#folder = undefined;
    await folder?.[Symbol.asyncDispose]();
  }
}
