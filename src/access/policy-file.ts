/** The policy as its file has it now. A file that is wrong changes nothing, and is complained of. */
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

  /** Told when the policy is another one. */
  onChange(listener: () => void): Disposable {
    // Its own, though the same function may be told twice.
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
      this.#log.info({ path: this.#path }, 'the policy has changed');
    } catch (error) {
      const wrong = error instanceof Error ? error.message : String(error);
      this.#log.error({ path: this.#path, wrong }, 'the policy stays as it was');
    }
  }

  [Symbol.dispose](): void {
    this.#watched[Symbol.dispose]();
  }
}
