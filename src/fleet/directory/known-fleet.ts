/** The fleet as a directory knows it. Both directories answer from it, at once and from memory. */
import { Wake } from '../../lib/wake.ts';
import type { Directory, Found, Freshness, Host, HostedDomain, LookOptions, Seeing } from './directory.ts';
import { Roster } from './roster.ts';

export abstract class KnownFleet implements Directory {
  readonly changes = new Wake();
  protected readonly roster = new Roster();

  /** All of it has been read once. */
  protected abstract readonly isRead: boolean;
  abstract readonly freshness: Freshness;
  abstract lookAgain(domain: string, options: LookOptions & { readonly sees?: Seeing }): Promise<Found>;
  abstract [Symbol.asyncDispose](): Promise<void>;

  async ready(signal?: AbortSignal): Promise<void> {
    await this.changes.until(() => this.isRead, signal);
  }

  host(name: string): Host | undefined {
    return this.roster.host(name);
  }

  hosts(): readonly Host[] {
    return this.roster.hosts();
  }

  domains(): Iterable<HostedDomain> {
    return this.roster.domains();
  }

  find(domain: string, sees?: Seeing): Found {
    return this.roster.find(domain, sees);
  }
}
