/** BlockJobs of all hosts: each call goes to the host with the domain or the job, by the directory. */
import type { BlockJobs, Call, Page, ReclaimResult, Requests, Started } from '../../core/block-jobs.ts';
import { ByKind, CALLS, type Changing, type Starting } from '../../core/calls.ts';
import { fail } from '../../core/errors.ts';
import type { FleetFigures } from '../../core/figures.ts';
import { together } from '../../core/foreign-job.ts';
import type { JobEvent } from '../../core/job/job-event.ts';
import type { JobView } from '../../core/job/job-view.ts';
import type { JobsMessage } from '../../core/jobs-message.ts';
import { BY_AGE, BY_NAME, OLDEST_FIRST, type Order, page, tokenForHosts } from '../../core/rules/list.ts';
import { invalidField } from '../../core/rules/rule.ts';
import { Pushed } from '../../lib/pushed.ts';
import { Watches } from '../../watch/watches.ts';
import type { Directory, Host } from '../directory/directory.ts';
import { type Agent, Agents } from './agents.ts';
import { type Answers, askAll } from './ask-all.ts';
import { FleetWatches } from './fleet-watch.ts';
import { hostNamed, JobPlaces } from './job-places.ts';
import type { Reach } from './reach.ts';
import { Routes, seenBy } from './routes.ts';
import { SharedWatch } from './shared-watch.ts';

export interface FleetOptions {
  readonly directory: Directory;
  readonly connect: (host: Host) => Agent;
  readonly watchersPerJob: number;
}

export class Fleet extends ByKind implements BlockJobs, Disposable {
  readonly #directory: Directory;
  readonly #agents: Agents;
  readonly #places: JobPlaces;
  readonly #routes: Routes;
  readonly #watches: Watches<SharedWatch>;
  readonly #all: FleetWatches;

  constructor({ directory, connect, watchersPerJob }: FleetOptions) {
    super();
    this.#directory = directory;
    this.#agents = new Agents(connect);
    this.#places = new JobPlaces(directory, this.#agents);
    this.#routes = new Routes(directory, this.#agents, this.#places);
    this.#watches = new Watches(watchersPerJob);
    this.#all = new FleetWatches(directory, this.#agents);
  }

  readonly getInfo: BlockJobs['getInfo'] = async (ref, call) =>
    await this.#routes.onJob(ref, 'read', call, async (agent, asked) => await agent.getInfo(ref, asked));

  readonly listJobs: BlockJobs['listJobs'] = async (request, call) => {
    CALLS.listJobs.check(request);
    // The ended jobs of a domain stay on the host where it was.
    const all = await this.#askHosts(call, async (agent, asked) => await agent.listJobs(onHosts(request), asked));
    const { domain } = request;
    const isKnown = domain === '' || all.answers.length > 0 || this.#directory.find(domain, seenBy(call)).is !== 'none';
    if (!isKnown && all.unreachable.length === 0) fail('DOMAIN_NOT_FOUND', { domain });
    const merged = merge(all, BY_AGE, request);
    for (const view of merged.items) this.#places.remember(view);
    return { ...merged, ...together(all.answers.map(({ answer }) => answer)) };
  };

  watch(request: Requests['watch'], call: Call): AsyncIterable<JobEvent> {
    return new Pushed(async (take) => {
      CALLS.watch.check(request);
      // Also determines the job of a disk, and hides jobs that the caller may not see.
      const view = await this.getInfo(request.job, call);
      const { job } = view.job.accepted;
      const seen = { known: view, shown: async () => await Promise.resolve(view) };
      const agentNow = async (asked: Call) => this.#agents.of((await this.#places.of(job, asked)).host);
      await this.#watches.watch(seen, () => new SharedWatch(job, agentNow), request, call).to(take);
    });
  }

  watchJobs(request: Requests['watchJobs'], call: Call): AsyncIterable<JobsMessage> {
    return this.#all.watch(request, call);
  }

  readonly checkOperation: BlockJobs['checkOperation'] = async (request, call) => {
    CALLS.checkOperation.check(request);
    const ask = async (agent: Agent, asked: Call) => await agent.checkOperation(request, asked);
    return await this.#routes.onDomain(request.domain, 'read', call, ask);
  };

  readonly listLeftovers: BlockJobs['listLeftovers'] = async (request, call) => {
    const all = await this.#askHosts(call, async (agent, asked) => await agent.listLeftovers(onHosts(request), asked));
    const { items, ...rest } = merge(all, OLDEST_FIRST, request);
    return { ...rest, items: items.map((leftover) => ({ ...leftover, id: idInFleet(leftover.host, leftover.id) })) };
  };

  readonly reclaim: BlockJobs['reclaim'] = async (request, call) => {
    const ids = request.ids.map(idOnHost);
    CALLS.reclaim.check({ ...request, ids: ids.map(({ id }) => id) });
    const perHost = Map.groupBy(ids, ({ host }) => host);
    const results = await Promise.all(
      [...perHost].map(async ([name, those]) => {
        const host = hostNamed(this.#directory, name);
        const onHost = { ...request, ids: those.map(({ id }) => id) };
        const found = await this.#agents.of(host).reclaim(onHost, call);
        return found.map(({ id, leftover, failure: why }): ReclaimResult => {
          const there = leftover && { ...leftover, id: idInFleet(name, leftover.id) };
          return { id: idInFleet(name, id), leftover: there, failure: why };
        });
      }),
    );
    const byId = new Map(results.flat().map((one) => [one.id, one]));
    return request.ids.map((id) => byId.get(id) ?? { id, leftover: undefined, failure: undefined });
  };

  readonly listDomains: BlockJobs['listDomains'] = async (request, call) => {
    const { host } = request;
    const one = host === '' ? undefined : [hostNamed(this.#directory, host)];
    const all = await this.#askHosts(
      call,
      async (agent, asked) => await agent.listDomains(onHosts(request), asked),
      one,
    );
    return merge(all, BY_NAME, request);
  };

  readonly getDomain: BlockJobs['getDomain'] = async (name, call) =>
    await this.#routes.onDomain(name, 'read', call, async (agent, asked) => await agent.getDomain(name, asked));

  /** The present numbers. Hosts that did not answer are asked again: otherwise nobody might ask them for hours. */
  figures(reach: Reach): FleetFigures {
    const hosts = this.#directory.hosts();
    reach.tryAgain(hosts, (host) => this.#agents.of(host));
    const unreachable = hosts.filter(({ name }) => reach.isSilent(name)).length;
    return {
      reachable: hosts.length - unreachable,
      unreachable,
      missing: this.#directory.missing().length,
      watchers: this.#watches.watchers,
      upstreamWatches: this.#watches.jobs,
    };
  }

  [Symbol.dispose](): void {
    this.#agents[Symbol.dispose]();
  }

  protected override changing<Rpc extends keyof Changing>(rpc: Rpc) {
    const { check, right } = CALLS[rpc];
    return async (request: Requests[Rpc], call: Call): Promise<JobView> => {
      check(request);
      const ask = async (agent: Changing, asked: Call) => await agent[rpc](request, asked);
      return await this.#routes.onJob(request.job, right, call, ask);
    };
  }

  protected override starting<Rpc extends keyof Starting>(rpc: Rpc) {
    const { check, right } = CALLS[rpc];
    return async (request: Requests[Rpc], call: Call): Promise<Started> => {
      check(request);
      const ask = async (agent: Starting, asked: Call) => await agent[rpc](request, asked);
      const started = await this.#routes.onDomain(request.disk.domain, right, call, ask);
      if (!('etag' in started)) this.#places.remember(started);
      return started;
    };
  }

  async #askHosts<T>(
    call: Call,
    ask: (agent: Agent, call: Call) => Promise<T>,
    hosts: readonly Host[] = this.#directory.hosts(),
  ): Promise<Answers<T>> {
    this.#agents.keep(this.#directory.hosts());
    const all = await askAll(hosts, this.#agents, ask, call);
    const refusal = all.refusals.find(({ reason }) => reason !== 'DOMAIN_NOT_FOUND');
    if (refusal !== undefined) throw refusal;
    const missing = hosts.length === 1 ? [] : this.#directory.missing();
    return { ...all, unreachable: [...new Set([...all.unreachable, ...missing])].toSorted() };
  }
}

function onHosts<Request extends { readonly pageToken: string }>(request: Request): Request {
  return { ...request, pageToken: tokenForHosts(request.pageToken) };
}

function merge<Item>(
  { answers, unreachable }: Answers<Page<Item>>,
  order: Order<Item>,
  asked: { readonly pageSize: number; readonly pageToken: string },
): Page<Item> {
  const items = answers.flatMap(({ answer }) => answer.items);
  const hasMore = answers.some(({ answer }) => answer.nextPageToken !== '');
  return { ...page(items, order, asked, hasMore), unreachableHosts: unreachable };
}

/** Two hosts may have a file with the same path. */
function idInFleet(host: string, id: string): string {
  return `${host}/${id}`;
}

function idOnHost(text: string): { readonly host: string; readonly id: string } {
  const at = text.indexOf('/');
  if (at < 1) throw invalidField('leftover_ids', `${text} is not in this list; ListLeftovers returns its ids`);
  return { host: text.slice(0, at), id: text.slice(at + 1) };
}
