/** The state in etcd of some domains, and of their hosts. */
import { domainKey, hostKey, type OwnedList, ownedKey, readDomain, readOwned } from '../directory/layout.ts';
import type { Etcd } from '../etcd/client.ts';
import type { Entry } from '../etcd/keys.ts';
import { read } from '../etcd/transactions.ts';
import type { RegisteredDomain } from './ownership.ts';

export interface SeenDomain {
  readonly id: string;
  readonly seen: RegisteredDomain | 'unreadable' | undefined;
  /** The revision of its entry; 0 if there is none. */
  readonly modRevision: bigint;
  /** The owner, if it is another host. */
  readonly other: string | undefined;
}

export interface Look {
  /** The revisions at which our own list, and the domains, were read. */
  readonly revision: bigint;
  readonly own: Entry | undefined;
  readonly domains: readonly SeenDomain[];
  /** Those other hosts that are present. */
  readonly there: ReadonlySet<string>;
  readonly lists: ReadonlyMap<string, OwnedList>;
}

export async function lookUp(etcd: Etcd, host: string, ids: readonly string[], signal: AbortSignal): Promise<Look> {
  const ifSo = [read(ownedKey(host)), ...ids.map((id) => read(domainKey(id)))];
  const { found, revision } = await etcd.txn({ when: [], ifSo }, { signal });
  const [own, ...entries] = found;
  const domains = ids.map((id, at) => seenIn(id, entries[at], host));
  const others = [...new Set(domains.flatMap(({ other }) => other ?? []))];
  return { revision, own, domains, ...(await lookAtHosts(etcd, others, signal)) };
}

function seenIn(id: string, entry: Entry | undefined, me: string): SeenDomain {
  const seen = entry && (readDomain(entry) ?? 'unreadable');
  const other = typeof seen === 'object' && seen.host !== me ? seen.host : undefined;
  return { id, seen, modRevision: entry?.modRevision ?? 0n, other };
}

async function lookAtHosts(etcd: Etcd, hosts: readonly string[], signal: AbortSignal) {
  const there = new Set<string>();
  const lists = new Map<string, OwnedList>();
  if (hosts.length === 0) return { there, lists };
  const ifSo = hosts.flatMap((name) => [read(hostKey(name)), read(ownedKey(name))]);
  const { found } = await etcd.txn({ when: [], ifSo }, { signal });
  for (const [at, name] of hosts.entries()) {
    if (found[2 * at] !== undefined) there.add(name);
    lists.set(name, readOwned(found[2 * at + 1]));
  }
  return { there, lists };
}
