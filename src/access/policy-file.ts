/** The policy in its file now. A wrong file changes nothing, and is logged. */
import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { WatchedFiles } from '../lib/watched-files.ts';
import { Policy } from './policy.ts';

export class PolicyFile implements Disposable {
  readonly #path: string;
  readonly #log: Logger;
  readonly #watched: WatchedFiles;
  readonly #listeners = new Set<() => void>();
  #text: string;
  #policy: Policy;

  /** Throws with what is wrong with the file. */
  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
    this.#text = readFileSync(path, 'utf8');
    const policy = Policy.read(this.#text);
    if (typeof policy === 'string') throw new Error(`${path}: ${policy}`);
    this.#policy = policy;
    this.#watched = new WatchedFiles([path], () => this.#reread());
  }

  get now(): Policy {
    return this.#policy;
  }

  /** Called when the policy has changed. */
  onChange(listener: () => void): Disposable {
    // A new function, because the same one may be registered twice.
    const own = () => listener();
    this.#listeners.add(own);
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) };
  }

  #reread(): void {
    try {
      const text = readFileSync(this.#path, 'utf8');
      if (text === this.#text) return;
      this.#text = text;
      const policy = Policy.read(text);
      if (typeof policy === 'string') throw new Error(policy);
      this.#policy = policy;
      for (const listener of this.#listeners) listener();
      this.#log.info({ path: this.#path }, 'The policy has changed');
    } catch (error) {
      const wrong = error instanceof Error ? error.message : String(error);
      this.#log.error({ path: this.#path, wrong }, 'The policy file is wrong; the previous policy stays in force');
    }
  }

  [Symbol.dispose](): void {
    this.#watched[Symbol.dispose]();
  }
}
