/** Counts refusals, and logs one line for many. */
import type { Logger } from 'pino';

const EACH_MS = 10_000;
/** Peers that are named in one line. */
const MOST_PEERS = 20;

export class Tally implements Disposable {
  readonly #log: Logger;
  readonly #counts = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(log: Logger) {
    this.#log = log;
  }

  count(what: string, peer: string): void {
    const key = `${what} of ${peer}`;
    const isNew = !this.#counts.has(key);
    if (isNew && this.#counts.size >= MOST_PEERS) return;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    this.#timer ??= setTimeout(() => this.#tell(), EACH_MS).unref();
  }

  #tell(): void {
    this.#timer = undefined;
    if (this.#counts.size > 0) this.#log.warn({ refused: Object.fromEntries(this.#counts) }, 'audit: limits reached');
    this.#counts.clear();
  }

  /** Logs all counts now. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#tell();
  }
}
