/** The directory of a small site: a file has the hosts, and they are asked for their domains. */
import { watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { Logger } from 'pino';
import { abortAfter } from '../../lib/timer.ts';
import { Wake } from '../../lib/wake.ts';
import type { Found, Freshness, Host, HostedDomain, LocalDomain, SearchOptions } from './directory.ts';
import { KnownFleet } from './known-fleet.ts';
import { readStaticFile, type StaticFile } from './static-file.ts';

export interface StaticDirectoryOptions {
  /** In the format of readStaticFile(). It is read again when it changes; an invalid one then changes nothing. */
  readonly path: string;
  /** The domains that a host runs. Rejects if it does not answer; then it keeps its previous ones. */
  readonly ask: (host: Host, signal: AbortSignal) => Promise<readonly LocalDomain[]>;
  /** Default: 10,000. */
  readonly askEveryMs?: number;
  /** How long a host may take to answer. Default: 3,000. */
  readonly askTimeoutMs?: number;
  readonly log: Logger;
}

export class StaticDirectory extends KnownFleet {
  readonly #options: StaticDirectoryOptions;
  readonly #answers = new Map<string, readonly LocalDomain[]>();
  readonly #silent = new Map<string, string>();
  readonly #closing = new AbortController();
  readonly #fileChanged = new Wake();
  readonly #running: Promise<void>;
  #file: StaticFile;
  #wrong: string | undefined;
  #asked = performance.now();
  protected override isRead = false;

  private constructor(options: StaticDirectoryOptions, file: StaticFile) {
    super();
    this.#options = options;
    this.#file = file;
    this.#place();
    this.#running = this.#run();
  }

  /** Rejects with what is wrong with the file. */
  static async open(options: StaticDirectoryOptions): Promise<StaticDirectory> {
    const file = readStaticFile(await readFile(options.path, 'utf8'));
    if (typeof file === 'string') throw new Error(`${options.path}: ${file}`);
    return new StaticDirectory(options, file);
  }

  get freshness(): Freshness {
    const forMs = performance.now() - this.#asked;
    if (this.#wrong !== undefined) return { live: false, forMs, why: this.#wrong };
    const [silent] = this.#silent;
    if (silent !== undefined) return { live: false, forMs, why: `host ${silent[0]} does not answer: ${silent[1]}` };
    return this.isRead ? { live: true } : { live: false, forMs, why: 'the hosts have not been asked yet' };
  }

  async lookAgain(domain: string, { timeoutMs, signal, sees }: SearchOptions): Promise<Found> {
    await this.#askAll(timeoutMs, signal);
    return this.find(domain, sees);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { path, askEveryMs = 10_000, askTimeoutMs = 3_000 } = this.#options;
    const { signal } = this.#closing;
    // The folder: replacing a file, or the target of a link, makes another one.
    using watched = new DisposableStack();
    watched.adopt(
      watch(dirname(path), () => this.#fileChanged.notify()),
      (watcher) => watcher.close(),
    );
    for (let read = this.#fileChanged.now; !signal.aborted; ) {
      await this.#askAll(askTimeoutMs, signal);
      this.isRead = true;
      this.changes.notify();
      const looked = this.#fileChanged.now;
      if (looked === read) await this.#fileChanged.after(looked, { timeoutMs: askEveryMs, signal });
      if (this.#fileChanged.now === read || signal.aborted) continue;
      read = this.#fileChanged.now;
      await this.#reread();
    }
  }

  async #reread(): Promise<void> {
    const { path, log } = this.#options;
    const text = await readFile(path, 'utf8').catch((error: unknown) => error);
    const file = typeof text === 'string' ? readStaticFile(text) : String(text);
    const wrong = typeof file === 'string' ? `${basename(path)}: ${file}` : undefined;
    if (wrong !== undefined && wrong !== this.#wrong) log.error({ wrong }, 'The directory file is wrong');
    this.#wrong = wrong;
    if (typeof file === 'string') return this.changes.notify();
    this.#file = file;
    const names = new Set(file.hosts.map(({ name }) => name));
    for (const name of this.#answers.keys()) if (!names.has(name)) this.#answers.delete(name);
    for (const name of this.#silent.keys()) if (!names.has(name)) this.#silent.delete(name);
    this.#place();
  }

  async #askAll(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const ends = [abortAfter(timeoutMs), this.#closing.signal, ...(signal === undefined ? [] : [signal])];
    const until = AbortSignal.any(ends);
    const { hosts } = this.#file;
    const asked = performance.now();
    await Promise.all(
      hosts.map(async (host) => {
        try {
          const domains = await this.#options.ask(host, until);
          // The file may have changed meanwhile.
          if (!this.#file.hosts.includes(host)) return;
          this.#answers.set(host.name, domains);
          this.#silent.delete(host.name);
        } catch (error) {
          if (this.#file.hosts.includes(host))
            this.#silent.set(host.name, error instanceof Error ? error.message : String(error));
        }
      }),
    );
    this.#asked = asked;
    this.#place();
  }

  #place(): void {
    const before = new Map([...this.domains()].map(({ id, host }) => [id, host]));
    this.resetHosts(this.#file.hosts);
    this.resetDomains(place(this.#answers, this.#file.listed, before));
    this.changes.notify();
  }
}

/**
 * The owner of each domain, out of the hosts that say they run it. `answers`: the last answer of each host that ever answered; until then its `listed` ones count. A domain that two
 * hosts name, for example during a migration, stays with the previous one.
 */
export function place(
  answers: ReadonlyMap<string, readonly LocalDomain[]>,
  listed: readonly HostedDomain[],
  before: ReadonlyMap<string, string>,
): HostedDomain[] {
  const placed = new Map<string, HostedDomain>();
  for (const domain of listed) if (!answers.has(domain.host)) placed.set(domain.id, domain);
  for (const [host, domains] of answers) {
    for (const { id, name } of domains) {
      if (placed.has(id) && before.get(id) !== host) continue;
      placed.set(id, { id, name, host, epoch: 0n });
    }
  }
  return [...placed.values()];
}
