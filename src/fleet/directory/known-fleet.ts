/** The fleet as a directory knows it. Both directories answer from it, at once and from memory. */
import { Wake } from '../../lib/wake.ts';
import type { Directory, Found, Freshness, SearchOptions } from './directory.ts';
import { Roster } from './roster.ts';

export abstract class KnownFleet extends Roster implements Directory {
  readonly changes = new Wake();

  /** All of it has been read once. */
  protected abstract readonly isRead: boolean;
  abstract readonly freshness: Freshness;
  abstract lookAgain(domain: string, options: SearchOptions): Promise<Found>;
  abstract [Symbol.asyncDispose](): Promise<void>;

  async ready(signal?: AbortSignal): Promise<void> {
    await this.changes.until(() => this.isRead, signal);
  }
}
