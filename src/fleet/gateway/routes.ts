/** The agent for a call: that of the host with the domain, or with the job. */
import type { Call } from '../../core/block-jobs.ts';
import { NOT_OURS } from '../../core/catalogue.ts';
import { BlockJobError, fail, failure } from '../../core/errors.ts';
import type { Right } from '../../core/grant.ts';
import type { JobView } from '../../core/job/job-view.ts';
import type { JobRef } from '../../core/requests.ts';
import { may, mustOperate, notThere, unknownFor } from '../../core/rights.ts';
import { invalidField } from '../../core/rules/rule.ts';
import type { Directory, Found, Host, Seeing } from '../directory/directory.ts';
import type { Agent, Agents } from './agents.ts';
import { type JobPlaces, NOT_THERE } from './job-places.ts';

/** How long a domain is searched beyond the cache. */
const LOOK_AGAIN_MS = 3000;
/** An agent that answers with one of these has not begun: the present owner is asked instead. */
const MOVED: ReadonlySet<string> = new Set([...NOT_OURS, 'DOMAIN_NOT_FOUND', 'GUEST_MIGRATING']);

export class Routes {
  readonly #directory: Directory;
  readonly #agents: Agents;
  readonly #places: JobPlaces;

  constructor(directory: Directory, agents: Agents, places: JobPlaces) {
    this.#directory = directory;
    this.#agents = agents;
    this.#places = places;
  }

  async onJob(
    ref: JobRef,
    right: Right,
    call: Call,
    act: (agent: Agent, call: Call) => Promise<JobView>,
  ): Promise<JobView> {
    if ('disk' in ref) {
      const view = await this.onDomain(ref.disk.domain, right, call, act);
      this.#places.remember(view);
      return view;
    }
    const { host, domain } = await this.#places.of(ref.jobId, call);
    if (right === 'operate') mustOperate(call, domain, unknownFor(ref));
    try {
      return await act(this.#agents.of(host), call);
    } catch (error) {
      if (error instanceof BlockJobError && error.reason === 'JOB_NOT_FOUND') this.#places.forget(ref.jobId);
      throw error;
    }
  }

  /** Asks the host of a domain; and once more, if that host does not own it and the directory knows another owner. */
  async onDomain<T>(
    domain: string,
    right: Right,
    call: Call,
    act: (agent: Agent, call: Call) => Promise<T>,
  ): Promise<T> {
    const found = this.#directory.find(domain, seenBy(call));
    const first = found.is === 'none' ? await this.#lookAgain(domain, call) : found;
    const target = this.#targetOf(domain, right, call, first);
    try {
      return await act(this.#agents.of(target.host), { ...call, epoch: target.epoch });
    } catch (error) {
      if (!(error instanceof BlockJobError) || !MOVED.has(error.reason)) throw error;
      const next = this.#targetOf(domain, right, call, await this.#lookAgain(domain, call));
      if (next.host.name === target.host.name && next.epoch === target.epoch) throw error;
      return await act(this.#agents.of(next.host), { ...call, epoch: next.epoch });
    }
  }

  async #lookAgain(domain: string, call: Call): Promise<Found> {
    try {
      const options = { timeoutMs: LOOK_AGAIN_MS, signal: call.signal, sees: seenBy(call) };
      return await this.#directory.lookAgain(domain, options);
    } catch (error) {
      call.signal.throwIfAborted();
      const why = error instanceof Error ? error.message : String(error);
      throw new BlockJobError(failure('DIRECTORY_UNREACHABLE', { why, what: `domain ${domain}` }), { cause: error });
    }
  }

  /** The present owner asks once more, by its running domains. */
  #targetOf(domain: string, right: Right, call: Call, found: Found): { readonly host: Host; readonly epoch: bigint } {
    const unknown = failure('DOMAIN_NOT_FOUND', { domain });
    switch (found.is) {
      case 'none': {
        const { freshness } = this.#directory;
        if (!freshness.live) fail('DIRECTORY_UNREACHABLE', { why: freshness.why, what: `domain ${domain}` });
        const hidden = this.#directory.find(domain);
        return notThere(unknown, call, hidden.is === 'one' ? hidden.domain.name : undefined);
      }
      case 'several': {
        const hosts = found.domains.map(({ host }) => host).join(', ');
        throw invalidField('domain', `"${domain}" names several domains, on ${hosts}; give the UUID of one`);
      }
      case 'one': {
        const { host, domain: one } = found;
        if (right === 'operate') mustOperate(call, one.name, unknown);
        if (host === undefined) fail('HOST_UNREACHABLE', { host: one.host, why: NOT_THERE });
        return { host, epoch: one.epoch };
      }
    }
  }
}

/** A domain that the caller may not read does not exist for it, also in our own directory. */
export function seenBy(call: Call): Seeing {
  return (name) => may(call, 'read', name);
}
