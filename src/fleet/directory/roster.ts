/**
 * The known hosts and domains: a fold of the directory's changes. Pure. A change costs the same in a fleet of any size;
 * lists are made when they are asked for, and kept until they change. There may be a million domains: little is kept of
 * each.
 */
import type { Found, Host, HostedDomain, Seeing } from './directory.ts';

interface Owner {
  readonly name: string;
  /** Their number. */
  domains: number;
}

export class Roster {
  readonly #hosts = new Map<string, Host>();
  readonly #domains = new Map<string, HostedDomain>();
  /** The domains with a name: almost always one. */
  readonly #named = new Map<string, HostedDomain | readonly HostedDomain[]>();
  /** All hosts that own domains, also absent ones. */
  readonly #owners = new Map<string, Owner>();
  readonly #missing = new Set<string>();
  #hostList: readonly Host[] | undefined;
  #missingList: readonly string[] | undefined;

  host(name: string): Host | undefined {
    return this.#hosts.get(name);
  }

  hosts(): readonly Host[] {
    this.#hostList ??= [...this.#hosts.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
    return this.#hostList;
  }

  missing(): readonly string[] {
    this.#missingList ??= [...this.#missing].toSorted();
    return this.#missingList;
  }

  domains(): Iterable<HostedDomain> {
    return this.#domains.values();
  }

  find(domain: string, sees: Seeing = () => true): Found {
    const byId = this.#domains.get(domain.toLowerCase()) ?? this.#domains.get(domain);
    if (byId !== undefined && sees(byId.name)) return this.#one(byId);
    const named = sees(domain) ? listOf(this.#named.get(domain)) : [];
    const [first, ...others] = named;
    if (first === undefined) return { is: 'none' };
    return others.length === 0 ? this.#one(first) : { is: 'several', domains: named };
  }

  setHost(name: string, host: Host | undefined): void {
    if (host === undefined) this.#hosts.delete(name);
    else this.#hosts.set(name, host);
    this.#hostList = undefined;
    this.#placeMissing(name);
  }

  setDomain(id: string, domain: HostedDomain | undefined): void {
    const before = this.#domains.get(id);
    if (before !== undefined) this.#remove(before);
    if (domain === undefined) return;
    const { name, epoch } = domain;
    const owner = this.#ownerNamed(domain.host);
    owner.domains += 1;
    // One text for all domains of a host.
    const kept = { id: domain.id, name, host: owner.name, epoch };
    this.#domains.set(kept.id, kept);
    const same = this.#named.get(name);
    this.#named.set(name, same === undefined ? kept : [...listOf(same), kept]);
  }

  /** These and no others. */
  resetHosts(hosts: readonly Host[]): void {
    const names = new Set(hosts.map(({ name }) => name));
    for (const name of this.#hosts.keys()) if (!names.has(name)) this.setHost(name, undefined);
    for (const host of hosts) this.setHost(host.name, host);
  }

  /** These and no others. */
  resetDomains(domains: readonly HostedDomain[]): void {
    const ids = new Set(domains.map(({ id }) => id));
    for (const id of this.#domains.keys()) if (!ids.has(id)) this.setDomain(id, undefined);
    for (const domain of domains) this.setDomain(domain.id, domain);
  }

  #one(domain: HostedDomain): Found {
    return { is: 'one', domain, host: this.#hosts.get(domain.host) };
  }

  #remove(domain: HostedDomain): void {
    const { id, name, host } = domain;
    this.#domains.delete(id);
    const [first, ...others] = listOf(this.#named.get(name)).filter((one) => one !== domain);
    if (first === undefined) this.#named.delete(name);
    else this.#named.set(name, others.length === 0 ? first : [first, ...others]);
    const owner = this.#ownerNamed(host);
    owner.domains -= 1;
    if (owner.domains > 0) return;
    this.#owners.delete(host);
    this.#placeMissing(host);
  }

  #ownerNamed(name: string): Owner {
    const known = this.#owners.get(name);
    if (known !== undefined) return known;
    const owner = { name, domains: 0 };
    this.#owners.set(name, owner);
    this.#placeMissing(name);
    return owner;
  }

  #placeMissing(host: string): void {
    const isMissing = this.#owners.has(host) && !this.#hosts.has(host);
    if (isMissing === this.#missing.has(host)) return;
    if (isMissing) this.#missing.add(host);
    else this.#missing.delete(host);
    this.#missingList = undefined;
  }
}

function listOf(named: HostedDomain | readonly HostedDomain[] | undefined): readonly HostedDomain[] {
  if (named === undefined) return [];
  return 'id' in named ? [named] : named;
}
