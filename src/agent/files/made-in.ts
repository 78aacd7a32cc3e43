/**
 * The folder in which a start has made its file. It is held open until the start is over, so that the file can be
 * removed even if the folder has another name by then.
 */
import type { PinnedFolder } from '../host/pinned-folder.ts';

export class MadeIn implements AsyncDisposable {
  #folder: PinnedFolder | undefined;

  /** Undefined if this process made nothing, or the start is over. */
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
