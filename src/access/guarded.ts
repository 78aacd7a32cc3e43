/** BlockJobs for callers who may not all do everything: each call is held against the policy before it goes on. */
import type {
  BlockJobs,
  Call,
  Domain,
  DomainDisk,
  JobEvent,
  Leftover,
  Page,
  ReclaimResult,
  Started,
} from '../core/block-jobs.ts';
import { fail } from '../core/errors.ts';
import type { JobView } from '../core/job-view.ts';
import type {
  AbortRequest,
  CheckOperationRequest,
  CommitRequest,
  CopyRequest,
  DiskRef,
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
import type { Right } from '../core/rights.ts';
import { BY_AGE, BY_NAME, OLDEST_FIRST, type Order } from '../core/rules/list.ts';
import type { Policy } from './policy.ts';
import { type PageAsked, readablePage } from './readable-page.ts';

export interface GuardedOptions {
  readonly jobs: BlockJobs;
  /** As it is now. */
  readonly policy: () => Policy;
  /** The name of a domain that was named by its UUID; undefined: nobody here knows it. */
  readonly nameOf: (domain: string) => string | undefined;
}

export class Guarded implements BlockJobs {
  readonly #jobs: BlockJobs;
  readonly #options: GuardedOptions;

  constructor(options: GuardedOptions) {
    this.#jobs = options.jobs;
    this.#options = options;
  }

  async startCopy(request: CopyRequest, call: Call): Promise<Started> {
    this.#mayOperate(request.disk, call);
    return await this.#jobs.startCopy(request, call);
  }

  async rebase(request: RebaseRequest, call: Call): Promise<Started> {
    this.#mayOperate(request.disk, call);
    return await this.#jobs.rebase(request, call);
  }

  async commit(request: CommitRequest, call: Call): Promise<Started> {
    this.#mayOperate(request.disk, call);
    return await this.#jobs.commit(request, call);
  }

  async getInfo(ref: JobRef, call: Call): Promise<JobView> {
    const view = await this.#jobs.getInfo(ref, call);
    this.#may('read', view.job.accepted.domain, call);
    return view;
  }

  async listJobs(request: ListJobsRequest, call: Call): Promise<Page<JobView>> {
    return await this.#readable(BY_AGE, request, call, {
      ask: async (at) => await this.#jobs.listJobs({ ...request, ...at }, call),
      domainOf: ({ job }) => job.accepted.domain,
    });
  }

  async abort(request: AbortRequest, call: Call): Promise<JobView> {
    await this.#mayEnd(request.job, call);
    return await this.#jobs.abort(request, call);
  }

  async setSpeed(request: SetSpeedRequest, call: Call): Promise<JobView> {
    await this.#mayEnd(request.job, call);
    return await this.#jobs.setSpeed(request, call);
  }

  async pause(request: PauseRequest, call: Call): Promise<JobView> {
    await this.#mayEnd(request.job, call);
    return await this.#jobs.pause(request, call);
  }

  async resume(request: PauseRequest, call: Call): Promise<JobView> {
    await this.#mayEnd(request.job, call);
    return await this.#jobs.resume(request, call);
  }

  async *watch(request: WatchRequest, call: Call): AsyncIterable<JobEvent> {
    await this.getInfo(request.job, call);
    for await (const event of this.#jobs.watch(request, call)) {
      // What was allowed when the watch began may not be any more.
      this.#may('read', event.job.accepted.domain, call);
      yield event;
    }
  }

  async checkOperation(request: CheckOperationRequest, call: Call): Promise<void> {
    this.#may('read', this.#nameOf(request.domain), call);
    await this.#jobs.checkOperation(request, call);
  }

  async listLeftovers(request: ListLeftoversRequest, call: Call): Promise<Page<Leftover>> {
    return await this.#readable(OLDEST_FIRST, request, call, {
      ask: async (at) => await this.#jobs.listLeftovers({ ...request, ...at }, call),
      domainOf: ({ domain }) => domain,
    });
  }

  async reclaim(request: ReclaimRequest, call: Call): Promise<readonly ReclaimResult[]> {
    const dry = await this.#jobs.reclaim({ ...request, apply: false, requestId: '' }, call);
    for (const { leftover } of dry) if (leftover !== undefined) this.#may('operate', leftover.domain, call);
    if (!request.apply) return dry;
    // Whatever turns up between the two looks nobody has been held against the policy for.
    const ids = dry.filter(({ leftover }) => leftover !== undefined).map(({ id }) => id);
    const done = ids.length === 0 ? [] : await this.#jobs.reclaim({ ...request, ids }, call);
    return dry.map((one) => done.find(({ id }) => id === one.id) ?? one);
  }

  async listDomains(request: ListDomainsRequest, call: Call): Promise<Page<Domain>> {
    return await this.#readable(BY_NAME, request, call, {
      ask: async (at) => await this.#jobs.listDomains({ ...request, ...at }, call),
      domainOf: ({ name }) => name,
    });
  }

  async getDomain(domain: string, call: Call): Promise<{ domain: Domain; disks: readonly DomainDisk[] }> {
    this.#may('read', this.#nameOf(domain), call);
    return await this.#jobs.getDomain(domain, call);
  }

  /** Refuses whom the policy does not name. */
  mayAsk({ caller }: Call): void {
    if (caller === undefined) refuseNameless();
    if (!this.#options.policy().names(caller)) fail('CALLER_NOT_ALLOWED', { caller, operation: 'read', domain: '*' });
  }

  async #readable<Item>(
    order: Order<Item>,
    asked: PageAsked,
    call: Call,
    { ask, domainOf }: { ask: (at: PageAsked) => Promise<Page<Item>>; domainOf: (item: Item) => string },
  ): Promise<Page<Item>> {
    const mayRead = (item: Item) => this.#allows('read', domainOf(item), call);
    const whileWanted = async (at: PageAsked) => {
      call.signal.throwIfAborted();
      return await ask(at);
    };
    return await readablePage(order, asked, { ask: whileWanted, mayRead });
  }

  #mayOperate({ domain }: DiskRef, call: Call): void {
    this.#may('operate', this.#nameOf(domain), call);
  }

  async #mayEnd(ref: JobRef, call: Call): Promise<void> {
    const { job } = await this.#jobs.getInfo(ref, call);
    this.#may('operate', job.accepted.domain, call);
  }

  #nameOf(domain: string): string {
    return this.#options.nameOf(domain) ?? domain;
  }

  #may(operation: Right, domain: string, call: Call): void {
    if (this.#allows(operation, domain, call)) return;
    if (call.caller === undefined) refuseNameless();
    fail('CALLER_NOT_ALLOWED', { caller: call.caller, operation, domain });
  }

  #allows(right: Right, domain: string, { caller }: Call): boolean {
    return caller !== undefined && this.#options.policy().allows(caller, right, domain);
  }
}

function refuseNameless(): never {
  fail('CALLER_UNKNOWN', { why: 'it has neither a SPIFFE id nor a DNS name' });
}
