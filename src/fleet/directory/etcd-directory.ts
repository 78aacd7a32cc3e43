/** The directory in etcd, as a gateway follows it: all in memory, current while etcd answers, useful when it does not. */
import type { Logger } from 'pino';
import type { Etcd } from '../etcd/client.ts';
import type { Entry, KeyChange, KeyRange } from '../etcd/keys.ts';
import { read } from '../etcd/transactions.ts';
import { Watcher } from '../etcd/watcher.ts';
import type { Found, Freshness, Host, HostedDomain, SearchOptions } from './directory.ts';
import { KnownFleet } from './known-fleet.ts';
import { DOMAIN_CUTS, DOMAINS, domainKey, HOSTS, hostKey, readDomain, readHost } from './layout.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export class EtcdDirectory extends KnownFleet {
  readonly #etcd: Etcd;
  readonly #log: Logger;
  readonly #watcher: Watcher;
  /** Ranges that have been read. */
  readonly #known = new Set<string>();
  #stale: { readonly since: number; readonly why: string } | undefined = {
    since: performance.now(),
    why: 'it has not been read yet',
  };

  /** Begins at once, and continues until it is closed. The client belongs to its creator. */
  constructor(etcd: Etcd, log: Logger) {
    super();
    this.#etcd = etcd;
    this.#log = log;
    this.#watcher = new Watcher(etcd, (live, why) => this.#becomes(live, why));
    this.#follow({ prefix: HOSTS }, readHost, {
      names: () => this.hosts().map(({ name }) => name),
      set: (name, host) => this.setHost(name, host),
    });
    this.#follow({ prefix: DOMAINS, cuts: DOMAIN_CUTS }, readDomain, {
      names: () => [...this.domains()].map(({ id }) => id),
      set: (id, domain) => this.setDomain(id, domain),
    });
    this.#watcher.start();
  }

  protected override get isRead(): boolean {
    return this.#known.size === 2;
  }

  get freshness(): Freshness {
    if (this.#stale === undefined) return { live: true };
    return { live: false, forMs: performance.now() - this.#stale.since, why: this.#stale.why };
  }

  /** An unknown name is not searched: only the memory has the names. */
  async lookAgain(domain: string, { sees = () => true, ...options }: SearchOptions): Promise<Found> {
    const known = this.find(domain, sees);
    if (known.is === 'several') return known;
    const id = known.is === 'one' ? known.domain.id : domain.toLowerCase();
    if (known.is === 'none' && !UUID.test(id)) return known;
    const { found } = await this.#etcd.txn({ when: [], ifSo: [read(domainKey(id))] }, options);
    const now = found[0] && readDomain(found[0]);
    if (now === undefined || !sees(now.name)) return { is: 'none' };
    const owner = await this.#etcd.txn({ when: [], ifSo: [read(hostKey(now.host))] }, options);
    const { name, host, epoch } = now;
    return { is: 'one', domain: { id, name, host, epoch }, host: owner.found[0] && readHost(owner.found[0]) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watcher[Symbol.asyncDispose]();
  }

  /** While all is read again, the last known state of the rest is used. */
  #follow<T extends Host | HostedDomain>(
    range: KeyRange & { readonly prefix: string },
    understand: (entry: Entry) => T | undefined,
    into: { names: () => Iterable<string>; set: (name: string, one: T | undefined) => void },
  ): void {
    const nameIn = (key: string) => key.slice(range.prefix.length);
    let unseen = new Set<string>();
    const understood = (entry: Entry): T | undefined => {
      const one = understand(entry);
      if (one === undefined) this.#log.warn({ key: entry.key }, 'The directory has an entry that is not ours');
      return one;
    };
    this.#watcher.follow(range, {
      begins: () => {
        unseen = new Set(into.names());
      },
      page: (entries) => {
        for (const entry of entries) {
          const name = nameIn(entry.key);
          unseen.delete(name);
          into.set(name, understood(entry));
        }
      },
      complete: () => {
        for (const name of unseen) into.set(name, undefined);
        unseen.clear();
        this.#known.add(range.prefix);
        this.changes.notify();
      },
      changed: (changes: readonly KeyChange[]) => {
        for (const { key, entry } of changes) into.set(nameIn(key), entry && understood(entry));
        this.changes.notify();
      },
    });
  }

  #becomes(live: boolean, why?: Error): void {
    if (live) {
      if (this.#stale !== undefined) this.#log.info('The directory is live');
      this.#stale = undefined;
    } else {
      const level = this.#stale === undefined ? 'warn' : 'debug';
      this.#log[level]({ error: why?.message }, 'The directory does not answer; its last known state is used');
      this.#stale = { since: this.#stale?.since ?? this.#watcher.heardAt, why: why?.message ?? '' };
    }
    this.changes.notify();
  }
}
