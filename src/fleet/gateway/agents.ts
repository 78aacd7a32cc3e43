/** The connections to the agents of the hosts: one each, made when it is needed. */
import type { BlockJobs } from '../../core/block-jobs.ts';
import type { Host } from '../directory/directory.ts';

export type Agent = BlockJobs & Disposable;

export class Agents implements Disposable {
  readonly #connect: (host: Host) => Agent;
  readonly #agents = new Map<string, { readonly host: Host; readonly agent: Agent }>();

  constructor(connect: (host: Host) => Agent) {
    this.#connect = connect;
  }

  of(host: Host): Agent {
    const known = this.#agents.get(host.name);
    if (known !== undefined && known.host.address === host.address && known.host.identity === host.identity) {
      return known.agent;
    }
    known?.agent[Symbol.dispose]();
    const agent = this.#connect(host);
    this.#agents.set(host.name, { host, agent });
    return agent;
  }

  /** Closes the connections of hosts that do not exist any more. */
  keep(hosts: readonly Host[]): void {
    const names = new Set(hosts.map(({ name }) => name));
    for (const [name, { agent }] of this.#agents) {
      if (names.has(name)) continue;
      this.#agents.delete(name);
      agent[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.keep([]);
  }
}
