/** BlockJobs of all hosts: each call goes to the host that has the domain or the job, as the directory says. */
import type {
  BlockJobs,
  Call,
  Domain,
  DomainDisk,
  JobEvent,
  JobsPage,
  Leftover,
  Page,
  ReclaimResult,
  Started,
} from '../core/block-jobs.ts';
import { fail } from '../core/errors.ts';
import type { FleetFigures } from '../core/figures.ts';
import { together } from '../core/foreign-job.ts';
import type { JobView } from '../core/job-view.ts';
import type {
  AbortRequest,
  CheckOperationRequest,
  CommitRequest,
  CopyRequest,
  JobRef,
  ListDomainsRequest,
  ListJobsRequest,
  ListLeftoversRequest,
  PauseRequest,
  RebaseRequest,
  ReclaimRequest,
  SetSpeedRequest,
  WatchRequest,
} from '../core/requests.ts';
import { checkAbort } from '../core/rules/abort.ts';
import { checkPause, parseSetSpeed } from '../core/rules/change.ts';
import { parseCheckOperation } from '../core/rules/check-operation.ts';
import { parseCommit } from '../core/rules/commit.ts';
import {
  BY_AGE,
  BY_NAME,
  OLDEST_FIRST,
  type Order,
  page,
  progressIntervalMs,
  stateFilter,
} from '../core/rules/list.ts';
import { parseRebase } from '../core/rules/rebase.ts';
import { checkReclaim } from '../core/rules/reclaim.ts';
import { invalidField } from '../core/rules/rule.ts';
import { parseStartCopy } from '../core/rules/start-copy.ts';
import { type Agent, Agents } from './agents.ts';
import { type Answers, askAll } from './ask-all.ts';
import type { Directory, Host } from './directory.ts';
import { JobPlaces, missingHosts } from './job-places.ts';
import type { Reach } from './reach.ts';
import { Routes, seenBy } from './routes.ts';
import { SharedWatches } from './shared-watches.ts';

export interface FleetOptions {
  readonly directory: Directory;
  readonly connect: (host: Host) => Agent;
  readonly watchersPerJob: number;
}

export class Fleet implements BlockJobs, Disposable {
  readonly #directory: Directory;
  readonly #agents: Agents;
  readonly #places: JobPlaces;
  readonly #routes: Routes;
  readonly #watches: SharedWatches;

  constructor({ directory, connect, watchersPerJob }: FleetOptions) {
    this.#directory = directory;
    this.#agents = new Agents(connect);
    this.#places = new JobPlaces(directory, this.#agents);
    this.#routes = new Routes(directory, this.#agents, this.#places);
    this.#watches = new SharedWatches(
      async (job, call) => this.#agents.of((await this.#places.of(job, call)).host),
      watchersPerJob,
    );
  }

  async startCopy(request: CopyRequest, call: Call): Promise<Started> {
    parseStartCopy(request);
    return await this.#start(request, call, async (agent, asked) => await agent.startCopy(request, asked));
  }

  async rebase(request: RebaseRequest, call: Call): Promise<Started> {
    parseRebase(request);
    return await this.#start(request, call, async (agent, asked) => await agent.rebase(request, asked));
  }

  async commit(request: CommitRequest, call: Call): Promise<Started> {
    parseCommit(request);
    return await this.#start(request, call, async (agent, asked) => await agent.commit(request, asked));
  }

  async getInfo(ref: JobRef, call: Call): Promise<JobView> {
    return await this.#routes.onJob(ref, 'read', call, async (agent, asked) => await agent.getInfo(ref, asked));
  }

  async listJobs(request: ListJobsRequest, call: Call): Promise<JobsPage> {
    stateFilter(request);
    // A domain that has moved has left its ended jobs where it was.
    const all = await this.#askHosts(call, async (agent, asked) => await agent.listJobs(request, asked));
    const { domain } = request;
    const isKnown =
      domain === '' || all.answers.length > 0 || this.#directory.find(domain, seenBy(call)).found !== 'none';
    if (!isKnown && all.unreachable.length === 0) fail('DOMAIN_NOT_FOUND', { domain });
    const merged = merge(all, BY_AGE, request);
    for (const view of merged.items) this.#places.remember(view);
    return { ...merged, ...together(all.answers.map(({ answer }) => answer)) };
  }

  async abort(request: AbortRequest, call: Call): Promise<JobView> {
    checkAbort(request);
    return await this.#operate(request.job, call, async (agent, asked) => await agent.abort(request, asked));
  }

  async setSpeed(request: SetSpeedRequest, call: Call): Promise<JobView> {
    parseSetSpeed(request);
    return await this.#operate(request.job, call, async (agent, asked) => await agent.setSpeed(request, asked));
  }

  async pause(request: PauseRequest, call: Call): Promise<JobView> {
    checkPause(request);
    return await this.#operate(request.job, call, async (agent, asked) => await agent.pause(request, asked));
  }

  async resume(request: PauseRequest, call: Call): Promise<JobView> {
    checkPause(request);
    return await this.#operate(request.job, call, async (agent, asked) => await agent.resume(request, asked));
  }

  async *watch(request: WatchRequest, call: Call): AsyncIterable<JobEvent> {
    progressIntervalMs(request);
    // Also finds out which job a disk has, and what the caller may not see.
    const view = await this.getInfo(request.job, call);
    yield* this.#watches.watch(view, request, call);
  }

  async checkOperation(request: CheckOperationRequest, call: Call): Promise<void> {
    parseCheckOperation(request);
    const ask = async (agent: Agent, asked: Call) => await agent.checkOperation(request, asked);
    await this.#routes.onDomain(request.domain, 'read', call, ask);
  }

  async listLeftovers(request: ListLeftoversRequest, call: Call): Promise<Page<Leftover>> {
    const all = await this.#askHosts(call, async (agent, asked) => await agent.listLeftovers(request, asked));
    const { items, ...rest } = merge(all, OLDEST_FIRST, request);
    return { ...rest, items: items.map((leftover) => ({ ...leftover, id: idInFleet(leftover.host, leftover.id) })) };
  }

  async reclaim(request: ReclaimRequest, call: Call): Promise<readonly ReclaimResult[]> {
    const ids = request.ids.map(idOnHost);
    checkReclaim({ ...request, ids: ids.map(({ id }) => id) });
    const perHost = Map.groupBy(ids, ({ host }) => host);
    const results = await Promise.all(
      [...perHost].map(async ([name, those]) => {
        const host = this.#routes.hostNamed(name);
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
  }

  async listDomains(request: ListDomainsRequest, call: Call): Promise<Page<Domain>> {
    const { host } = request;
    const one = host === '' ? undefined : [this.#routes.hostNamed(host)];
    const all = await this.#askHosts(call, async (agent, asked) => await agent.listDomains(request, asked), one);
    return merge(all, BY_NAME, request);
  }

  async getDomain(name: string, call: Call): Promise<{ domain: Domain; disks: readonly DomainDisk[] }> {
    return await this.#routes.onDomain(name, 'read', call, async (agent, asked) => await agent.getDomain(name, asked));
  }

  /** What there is now, in numbers. Hosts that did not answer are asked again: nobody else may do so for hours. */
  figures(reach: Reach): FleetFigures {
    const hosts = this.#directory.hosts();
    reach.tryAgain(hosts, (host) => this.#agents.of(host));
    const unreachable = hosts.filter(({ name }) => reach.isSilent(name)).length;
    return {
      reachable: hosts.length - unreachable,
      unreachable,
      missing: missingHosts(this.#directory).length,
      watchers: this.#watches.watchers,
      upstreamWatches: this.#watches.count,
    };
  }

  [Symbol.dispose](): void {
    this.#agents[Symbol.dispose]();
  }

  async #operate(ref: JobRef, call: Call, act: (agent: Agent, call: Call) => Promise<JobView>): Promise<JobView> {
    return await this.#routes.onJob(ref, 'operate', call, act);
  }

  async #start(
    { disk }: CopyRequest | RebaseRequest | CommitRequest,
    call: Call,
    start: (agent: Agent, call: Call) => Promise<Started>,
  ): Promise<Started> {
    const started = await this.#routes.onDomain(disk.domain, 'operate', call, start);
    if (!('etag' in started)) this.#places.remember(started);
    return started;
  }

  async #askHosts<T>(
    call: Call,
    ask: (agent: Agent, call: Call) => Promise<T>,
    hosts: readonly Host[] = this.#directory.hosts(),
  ): Promise<Answers<T>> {
    this.#agents.keep(this.#directory.hosts());
    const all = await askAll(hosts, (host) => this.#agents.of(host), ask, call);
    const refusal = all.refusals.find(({ reason }) => reason !== 'DOMAIN_NOT_FOUND');
    if (refusal !== undefined) throw refusal;
    const missing = hosts.length === 1 ? [] : missingHosts(this.#directory);
    return { ...all, unreachable: [...new Set([...all.unreachable, ...missing])].toSorted() };
  }
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

/** Two hosts may have a file of the same path. */
function idInFleet(host: string, id: string): string {
  return `${host}/${id}`;
}

function idOnHost(text: string): { readonly host: string; readonly id: string } {
  const at = text.indexOf('/');
  if (at < 1) throw invalidField('leftover_ids', `${text} is not of this list; ListLeftovers gives those there are`);
  return { host: text.slice(0, at), id: text.slice(at + 1) };
}
