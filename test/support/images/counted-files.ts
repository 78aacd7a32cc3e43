/** Counts the calls of this process to file systems, by any module. */
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

type Call = (...args: unknown[]) => unknown;

const ASKING = ['access', 'lstat', 'open', 'readdir', 'readFile', 'readlink', 'realpath', 'stat', 'statfs'] as const;

export class CountedFiles implements Disposable {
  readonly #originals = new Map<string, Call>();
  #calls = 0;

  constructor() {
    const all = promises as unknown as Record<string, Call>;
    for (const name of ASKING) {
      const original = all[name];
      if (original === undefined) throw new Error(`node:fs/promises has no ${name}`);
      this.#originals.set(name, original);
      all[name] = (...args) => {
        this.#calls += 1;
        return original(...args);
      };
    }
    syncBuiltinESMExports();
  }

  get calls(): number {
    return this.#calls;
  }

  [Symbol.dispose](): void {
    const all = promises as unknown as Record<string, Call>;
    for (const [name, original] of this.#originals) all[name] = original;
    syncBuiltinESMExports();
  }
}
