/**
 * The domains of one host in etcd: the wanted state is compared with the present one, and established. Each change is
 * one transaction, which succeeds only if the facts of its decision have not changed.
 */
import type { Logger } from 'pino';
import type { Host, LocalDomain } from '../directory/directory.ts';
import { domainKey, domainValue, hostKey, NO_LIST, ownedKey, ownedValue, readOwned } from '../directory/layout.ts';
import type { Etcd } from '../etcd/client.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { Entry } from '../etcd/keys.ts';
import { absent, modifiedAt, put, remove } from '../etcd/transactions.ts';
import type { Watcher } from '../etcd/watcher.ts';
import { type Look, lookUp, type SeenDomain } from './directory-look.ts';
import { type Decision, decide } from './ownership.ts';

/** etcd takes 128 operations and as many comparisons in a transaction; a domain needs up to three of them. */
const BATCH = 40;

/** A decision about one domain, with its facts. */
interface Case {
  readonly domain: SeenDomain;
  readonly decision: Decision;
}

export interface ClaimsOptions {
  readonly etcd: Etcd;
  readonly watcher: Watcher;
  readonly host: Host;
  readonly log: Logger;
  /** Our domains have changed, or work is open. */
  readonly changed: () => void;
}

export class Claims {
  readonly #options: ClaimsOptions;
  readonly #here = new Map<string, LocalDomain>();
  readonly #arrived = new Set<string>();
  /** The epochs of our domains. */
  readonly #held = new Map<string, bigint>();
  readonly #contested = new Map<string, string | undefined>();
  /** The domains that must be checked. */
  readonly #open = new Set<string>();
  /** Nothing is given up until the agent has known all running domains. */
  #complete = false;
  /** Our own list has not been read since the registration. */
  #unread = true;
  #owned = NO_LIST;
  #following: Disposable | undefined;

  constructor(options: ClaimsOptions) {
    this.#options = options;
  }

  advertise(domains: readonly LocalDomain[], { complete }: { readonly complete: boolean }): void {
    const before = new Map(this.#here);
    this.#complete ||= complete;
    this.#here.clear();
    for (const domain of domains) {
      this.#here.set(domain.id, domain);
      if (before.get(domain.id)?.name !== domain.name) this.#open.add(domain.id);
      before.delete(domain.id);
    }
    for (const id of before.keys()) {
      this.#open.add(id);
      this.#arrived.delete(id);
    }
    this.#options.changed();
  }

  arrived(id: string): void {
    this.#arrived.add(id);
    this.#open.add(id);
    this.#options.changed();
  }

  /** After a registration: everything is checked again. */
  reopen(): void {
    this.#unread = true;
    for (const id of [...this.#here.keys(), ...this.#held.keys()]) this.#open.add(id);
    // The new lease does not cover domains from the time of another one.
    this.#held.clear();
  }

  /** It differs in etcd: until it is checked again it counts as free. */
  doubt(id: string): void {
    this.#held.delete(id);
    this.#open.add(id);
    this.#options.changed();
  }

  /** Domains of others are checked again: an owner may have gone. */
  reopenContested(): void {
    for (const id of this.#contested.keys()) this.#open.add(id);
  }

  get anyContested(): boolean {
    return this.#contested.size > 0;
  }

  epochOf(id: string): bigint | undefined {
    return this.#held.get(id);
  }

  /** Its owner instead, as far as that is known. */
  ownerOf(id: string): string | undefined {
    return this.#contested.get(id);
  }

  /** It runs here, and its owner will be known after the check. */
  isPending(id: string): boolean {
    return this.#here.has(id) && this.#open.has(id) && !this.#held.has(id);
  }

  /** Does the open work. Rejects with EtcdError if that fails, or something changed meanwhile: once more. */
  async settle(hostEpoch: bigint, signal: AbortSignal): Promise<void> {
    for (let batch = this.#next(); this.#unread || batch.length > 0; batch = this.#next()) {
      const asked = new Map(batch.map((id) => [id, this.#here.get(id)]));
      const found = await lookUp(this.#options.etcd, this.#options.host.name, batch, signal);
      this.#follow(found);
      const cases = found.domains.map((domain) => ({ domain, decision: this.#decide(domain, found.there) }));
      const written = await this.#write(hostEpoch, cases, found, signal);
      for (const one of cases) this.#apply(one, written);
      // Later statements about it need another check.
      for (const id of batch) if (this.#here.get(id) === asked.get(id)) this.#open.delete(id);
      this.#unread = false;
      this.#options.changed();
    }
  }

  #next(): readonly string[] {
    return [...this.#open].filter((id) => this.#complete || this.#here.has(id)).slice(0, BATCH);
  }

  close(): void {
    this.#following?.[Symbol.dispose]();
  }

  /** A host that takes a domain from us also takes it off our list: one key shows every loss. */
  #follow({ own, revision }: Look): void {
    this.#read(own);
    this.#following ??= this.#options.watcher.follow(
      { key: ownedKey(this.#options.host.name) },
      {
        page: ([entry]) => this.#read(entry),
        // News may be older than our last write, but not the result of a read, unless etcd was restored from a backup.
        changed: (changes) => this.#read(changes.at(-1)?.entry, this.#owned.modRevision),
      },
      revision + 1n,
    );
  }

  #decide({ id, seen }: SeenDomain, there: ReadonlySet<string>): Decision {
    const { name, instance } = this.#options.host;
    const ownerIsThere = typeof seen === 'object' && there.has(seen.host);
    const me = { host: name, instance };
    return decide({ me, here: this.#here.get(id), arrived: this.#arrived.has(id), seen, ownerIsThere });
  }

  /** Returns the revision of the write, if one was needed. */
  async #write(
    hostEpoch: bigint,
    cases: readonly Case[],
    { lists }: Look,
    signal: AbortSignal,
  ): Promise<bigint | undefined> {
    const { etcd, host } = this.#options;
    const owned = this.#owned;
    const ids = new Set(owned.ids);
    const takenFrom = new Map<string, Set<string>>();
    const when = [modifiedAt(hostKey(host.name), hostEpoch), modifiedAt(ownedKey(host.name), owned.modRevision)];
    const ifSo = [];
    for (const { domain, decision } of cases) {
      const { id, other } = domain;
      if (decision.do === 'claim') {
        ids.add(id);
        if (decision.unless !== undefined) when.push(absent(hostKey(decision.unless)));
        if (other !== undefined) takenFrom.set(other, (takenFrom.get(other) ?? new Set()).add(id));
        const name = this.#here.get(id)?.name ?? '';
        ifSo.push(put(domainKey(id), domainValue({ name, host: host.name, instance: host.instance })));
      } else if (decision.do === 'release') {
        // A domain that will be missing is not ours any more: the news must not count as a loss.
        this.#held.delete(id);
        ids.delete(id);
        ifSo.push(remove(domainKey(id)));
      } else {
        if (decision.do === 'keep') ids.add(id);
        else ids.delete(id);
        continue;
      }
      when.push(modifiedAt(domainKey(id), domain.modRevision));
    }
    for (const [other, taken] of takenFrom) {
      const list = lists.get(other);
      if (list === undefined) continue;
      when.push(modifiedAt(ownedKey(other), list.modRevision));
      ifSo.push(put(ownedKey(other), ownedValue(list.ids.difference(taken))));
    }
    const relisted = ids.symmetricDifference(owned.ids).size > 0;
    if (relisted) ifSo.push(put(ownedKey(host.name), ownedValue(ids)));
    if (ifSo.length === 0) return undefined;
    const { held, revision } = await etcd.txn({ when, ifSo }, { signal });
    if (!held) throw new EtcdError('Something has changed while domains were claimed');
    if (relisted && revision > this.#owned.modRevision) this.#owned = { ids, modRevision: revision };
    return revision;
  }

  #apply({ domain: { id }, decision }: Case, writtenAt: bigint | undefined): void {
    const { log } = this.#options;
    const wasWith = this.ownerOf(id);
    const wasContested = this.#contested.delete(id);
    switch (decision.do) {
      case 'claim':
        this.#arrived.delete(id);
        if (writtenAt !== undefined) this.#held.set(id, writtenAt);
        log.info({ domain: id, epoch: String(writtenAt) }, 'This host owns a domain');
        return;
      case 'keep':
        this.#arrived.delete(id);
        this.#held.set(id, decision.epoch);
        return;
      case 'contest':
        this.#held.delete(id);
        this.#contested.set(id, decision.owner);
        if (!wasContested || wasWith !== decision.owner) {
          log.error({ domain: id, owner: decision.owner }, 'A domain of another host also runs here');
        }
        return;
      case 'release':
      case 'nothing':
        this.#held.delete(id);
        return;
    }
  }

  /** Our list in etcd: a listed domain that does not run is given up, an owned one that is not listed is lost. */
  #read(entry: Entry | undefined, notBefore = 0n): void {
    const list = readOwned(entry);
    if (entry !== undefined && list.modRevision < notBefore) return;
    this.#owned = list;
    for (const id of list.ids) if (!this.#here.has(id)) this.#open.add(id);
    for (const id of [...this.#held.keys()].filter((one) => !list.ids.has(one))) {
      this.#options.log.warn({ domain: id }, 'This host no longer owns a domain');
      this.#held.delete(id);
      this.#open.add(id);
    }
    this.#options.changed();
  }
}
