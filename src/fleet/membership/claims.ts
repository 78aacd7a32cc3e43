/**
 * The domains of one host in etcd: what is wanted is compared with what is there, and made so. Each change is one
 * transaction, which holds only if nothing of what it was decided upon has changed.
 */
import type { Logger } from 'pino';
import type { Host, LocalDomain } from '../directory/directory.ts';
import { domainKey, domainValue, hostKey, ownedKey, ownedValue } from '../directory/layout.ts';
import type { Etcd } from '../etcd/client.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { Entry } from '../etcd/keys.ts';
import { absent, modifiedAt, put, remove } from '../etcd/transactions.ts';
import type { Watcher } from '../etcd/watcher.ts';
import { type Look, lookUp, type SeenDomain } from './directory-look.ts';
import { listOf, NO_LIST } from './owned-list.ts';
import { type Decision, decide } from './ownership.ts';

/** etcd takes 128 operations and as many comparisons in a transaction; a domain needs up to three of these. */
const BATCH = 40;

/** A decision about one domain, and what it was made of. */
interface Case {
  readonly domain: SeenDomain;
  readonly decision: Decision;
}

export interface ClaimsOptions {
  readonly etcd: Etcd;
  readonly watcher: Watcher;
  readonly host: Host;
  readonly log: Logger;
  /** What we hold has changed, or there is something to put in order. */
  readonly changed: () => void;
}

export class Claims {
  readonly #options: ClaimsOptions;
  readonly #here = new Map<string, LocalDomain>();
  readonly #arrived = new Set<string>();
  /** The epochs of those that are ours. */
  readonly #held = new Map<string, bigint>();
  readonly #contested = new Map<string, string | undefined>();
  /** Those that must be looked at. */
  readonly #open = new Set<string>();
  /** Until the agent has known all that runs here nothing is given up. */
  #complete = false;
  /** Our own list has not been read since we are registered. */
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

  /** After a registration: everything is looked at again. */
  reopen(): void {
    this.#unread = true;
    for (const id of [...this.#here.keys(), ...this.#held.keys()]) this.#open.add(id);
    // The new lease does not vouch for what was held under another one.
    this.#held.clear();
  }

  /** It is not in etcd as we thought: until it has been looked at again it is nobody's. */
  doubt(id: string): void {
    this.#held.delete(id);
    this.#open.add(id);
    this.#options.changed();
  }

  /** Those of others are looked at again: an owner may have gone. */
  reopenContested(): void {
    for (const id of this.#contested.keys()) this.#open.add(id);
  }

  get anyContested(): boolean {
    return this.#contested.size > 0;
  }

  epochOf(id: string): bigint | undefined {
    return this.#held.get(id);
  }

  /** Whose it is instead, as far as that is known. */
  ownerOf(id: string): string | undefined {
    return this.#contested.get(id);
  }

  /** It runs here, and whose it is will be known when it has been looked at. */
  isPending(id: string): boolean {
    return this.#here.has(id) && this.#open.has(id) && !this.#held.has(id);
  }

  /** Puts in order what is open. Rejects with EtcdError when it cannot be, or something changed meanwhile: once more. */
  async settle(hostEpoch: bigint, signal: AbortSignal): Promise<void> {
    for (let batch = this.#next(); this.#unread || batch.length > 0; batch = this.#next()) {
      const asked = new Map(batch.map((id) => [id, this.#here.get(id)]));
      const found = await lookUp(this.#options.etcd, this.#options.host.name, batch, signal);
      this.#follow(found);
      const cases = found.domains.map((domain) => ({ domain, decision: this.#decide(domain, found.there) }));
      const written = await this.#write(hostEpoch, cases, found, signal);
      for (const one of cases) this.#apply(one, written);
      // What has been said about it meanwhile needs another look.
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

  /** Whoever takes a domain from us takes it off our list too: one key tells of every loss. */
  #follow({ own, revision }: Look): void {
    this.#read(own);
    this.#following ??= this.#options.watcher.follow(
      { key: ownedKey(this.#options.host.name) },
      {
        reset: ([entry]) => this.#read(entry),
        // News may be older than what we wrote. What was read is not, or etcd has gone back, as to a backup.
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

  /** Gives the revision at which it was written, if there was anything to write. */
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
        // What will not be there is not ours: the news must not be taken for a loss.
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
        log.info({ domain: id, epoch: String(writtenAt) }, 'this host owns the domain');
        return;
      case 'keep':
        this.#arrived.delete(id);
        this.#held.set(id, decision.epoch);
        return;
      case 'contest':
        this.#held.delete(id);
        this.#contested.set(id, decision.owner);
        if (!wasContested || wasWith !== decision.owner) {
          log.error({ domain: id, owner: decision.owner }, 'the domain runs here too, and is not changed here');
        }
        return;
      case 'release':
      case 'nothing':
        this.#held.delete(id);
        return;
    }
  }

  /** Our list as it is in etcd: what is on it and does not run is to be given up, what is ours and not on it is lost. */
  #read(entry: Entry | undefined, notBefore = 0n): void {
    const list = listOf(entry);
    if (entry !== undefined && list.modRevision < notBefore) return;
    this.#owned = list;
    for (const id of list.ids) if (!this.#here.has(id)) this.#open.add(id);
    for (const id of [...this.#held.keys()].filter((one) => !list.ids.has(one))) {
      this.#options.log.warn({ domain: id }, 'this host no longer owns the domain');
      this.#held.delete(id);
      this.#open.add(id);
    }
    this.#options.changed();
  }
}
