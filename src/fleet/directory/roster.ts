/** The known hosts and domains: a fold of the directory's changes. Pure. */
import type { Found, Host, HostedDomain, Seeing } from './directory.ts';

export class Roster {
  readonly #hosts = new Map<string, Host>();
  readonly #domains = new Map<string, HostedDomain>();
  /** The ids of all domains with a name. */
  readonly #named = new Map<string, Set<string>>();

  host(name: string): Host | undefined {
    return this.#hosts.get(name);
  }

  hosts(): readonly Host[] {
    return [...this.#hosts.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  domains(): Iterable<HostedDomain> {
    return this.#domains.values();
  }

  find(domain: string, sees: Seeing = () => true): Found {
    const byId = this.#domains.get(domain.toLowerCase()) ?? this.#domains.get(domain);
    if (byId !== undefined && sees(byId.name)) return this.#one(byId);
    const ids = sees(domain) ? [...(this.#named.get(domain) ?? [])] : [];
    const named = ids.flatMap((id) => this.#domains.get(id) ?? []);
    const [first, ...others] = named;
    if (first === undefined) return { is: 'none' };
    return others.length === 0 ? this.#one(first) : { is: 'several', domains: named };
  }

  setHost(name: string, host: Host | undefined): void {
    if (host === undefined) this.#hosts.delete(name);
    else this.#hosts.set(name, host);
  }

  setDomain(id: string, domain: HostedDomain | undefined): void {
    const before = this.#domains.get(id);
    if (before !== undefined) this.#forgetName(before);
    this.#domains.delete(id);
    if (domain === undefined) return;
    this.#domains.set(id, domain);
    const named = this.#named.get(domain.name) ?? new Set();
    this.#named.set(domain.name, named.add(id));
  }

  /** These and no others. */
  resetHosts(hosts: readonly Host[]): void {
    this.#hosts.clear();
    for (const host of hosts) this.#hosts.set(host.name, host);
  }

  /** These and no others. */
  resetDomains(domains: readonly HostedDomain[]): void {
    this.#domains.clear();
    this.#named.clear();
    for (const domain of domains) this.setDomain(domain.id, domain);
  }

  #one(domain: HostedDomain): Found {
    return { is: 'one', domain, host: this.#hosts.get(domain.host) };
  }

  #forgetName({ id, name }: HostedDomain): void {
    const named = this.#named.get(name);
    named?.delete(id);
    if (named?.size === 0) this.#named.delete(name);
  }
}
