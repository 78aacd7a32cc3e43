/** Reports when files may have changed: also when they are replaced by name, or by a link of their folder. */
import { type FSWatcher, watch } from 'node:fs';
import { dirname } from 'node:path';

/** For file systems that report no changes. */
const LOOK_EVERY_MS = 10_000;

export class WatchedFiles implements Disposable {
  readonly #watchers: readonly FSWatcher[];
  readonly #timer: NodeJS.Timeout;

  /** `mayHaveChanged` is called too often rather than too seldom. */
  constructor(paths: readonly string[], mayHaveChanged: () => void) {
    const folders = new Set(paths.map((path) => dirname(path)));
    this.#watchers = [...folders].map((folder) => watch(folder, mayHaveChanged).on('error', () => undefined));
    this.#timer = setInterval(mayHaveChanged, LOOK_EVERY_MS).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const watcher of this.#watchers) watcher.close();
  }
}
