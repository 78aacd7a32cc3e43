/** The hosts that do not answer, by the end of the last call to each. */
import { BlockJobError } from '../../core/errors.ts';
import type { Doing, Observer } from '../../lib/observer.ts';
import type { Host } from '../directory/directory.ts';
import type { Agent } from './agents.ts';

const SILENT_HOST_ANSWERS_MS = 2000;
const NEVER = new AbortController().signal;

export class Reach implements Observer {
  readonly #silent = new Set<string>();
  /** The caller that waited for them has left: they may be slow, or silent. */
  readonly #suspects = new Set<string>();

  isSilent(host: string): boolean {
    return this.#silent.has(host);
  }

  async during<T>(doing: Doing, work: () => Promise<T>): Promise<T> {
    if (doing.does !== 'ask') return await work();
    try {
      const answer = await work();
      this.#silent.delete(doing.host);
      return answer;
    } catch (error) {
      // A host that refuses is reachable. A watch that its caller leaves is normal.
      if (!(error instanceof BlockJobError)) {
        if (!doing.isStream) this.#suspects.add(doing.host);
      } else if (error.reason === 'HOST_UNREACHABLE') this.#silent.add(doing.host);
      else this.#silent.delete(doing.host);
      throw error;
    }
  }

  /** Makes the cheapest call to the hosts that did not answer; the result is known at the next question. */
  tryAgain(hosts: readonly Host[], agentOf: (host: Host) => Agent): void {
    const names = new Set(hosts.map(({ name }) => name));
    for (const gone of this.#silent.difference(names)) this.#silent.delete(gone);
    for (const gone of this.#suspects.difference(names)) this.#suspects.delete(gone);
    for (const host of hosts.filter(({ name }) => this.#silent.has(name) || this.#suspects.has(name))) {
      this.#suspects.delete(host.name);
      const deadlineMs = performance.now() + SILENT_HOST_ANSWERS_MS;
      agentOf(host)
        .listDomains({ host: '', pageSize: 1, pageToken: '' }, { signal: NEVER, deadlineMs })
        .catch((error: unknown) => {
          if (error instanceof BlockJobError && error.reason === 'HOST_UNREACHABLE') this.#silent.add(host.name);
        });
    }
  }
}
