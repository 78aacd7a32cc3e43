/**
 * BlockJobs for callers with limited rights. Every search for a domain or a job asks the policy about the found object:
 * each call carries the policy. Callers learn nothing that the present policy keeps from them.
 */
import type { BlockJobs, Call, Page, ReclaimResult, Requests, Started } from '../core/block-jobs.ts';
import { ByKind, type Changing, type Starting } from '../core/calls.ts';
import { type Failure, fail, failure } from '../core/errors.ts';
import { type ForeignJobs, readable as readableForeign, together } from '../core/foreign-job.ts';
import type { JobEvent } from '../core/job/job-event.ts';
import type { JobView } from '../core/job/job-view.ts';
import type { JobsMessage } from '../core/jobs-message.ts';
import type { JobRef } from '../core/requests.ts';
import { may, mustOperate, notThere, unknownFor } from '../core/rights.ts';
import { BY_AGE, BY_NAME, OLDEST_FIRST, type Order, page, pageSize } from '../core/rules/list.ts';
import { eachOf, Pushed, type Take } from '../lib/pushed.ts';
import type { PolicyFile } from './policy-file.ts';
import { seenJobs } from './seen-jobs.ts';

/** A policy that may change during a call. */
export type LivePolicy = Pick<PolicyFile, 'now' | 'onChange'>;

interface PageAsked {
  readonly pageSize: number;
  readonly pageToken: string;
}

export class Guarded extends ByKind implements BlockJobs {
  readonly #jobs: BlockJobs;
  readonly #policy: LivePolicy;

  constructor(jobs: BlockJobs, policy: LivePolicy) {
    super();
    this.#jobs = jobs;
    this.#policy = policy;
  }

  readonly getInfo: BlockJobs['getInfo'] = async (ref, call) =>
    await this.#shown(ref, call, async (held) => await this.#jobs.getInfo(ref, held));

  readonly listJobs: BlockJobs['listJobs'] = async (request, call) => {
    const held = this.#held(call);
    const foreign: ForeignJobs[] = [];
    const ask = async (at: PageAsked) => {
      const found = await this.#jobs.listJobs({ ...request, ...at }, held);
      foreign.push(found);
      return found;
    };
    const found = await readable(BY_AGE, request, held, { ask, domainOf: ({ job }) => job.accepted.domain });
    return { ...found, ...readableForeign(together(foreign), (domain) => may(held, 'read', domain)) };
  };

  /** Ends, as for a job that does not exist, when the policy does not allow its caller to read it any more. */
  watch(request: Requests['watch'], call: Call): AsyncIterable<JobEvent> {
    return new Pushed(async (take) => await this.#watch(request, call, take));
  }

  async #watch(request: Requests['watch'], call: Call, take: Take<JobEvent>): Promise<void> {
    const held = this.#held(call);
    const { domain } = (await this.#jobs.getInfo(request.job, held)).job.accepted;
    const refuse = () => mustRead(held, domain, unknownFor(request.job));
    refuse();
    const revoked = new AbortController();
    using _changes = this.#policy.onChange(() => {
      if (!may(held, 'read', domain)) revoked.abort();
    });
    const signal = AbortSignal.any([call.signal, revoked.signal]);
    await eachOf(this.#jobs.watch(request, { ...held, signal }), (event) => {
      refuse();
      return take(event);
    });
    refuse();
  }

  /** Starts again with a snapshot when the policy lets its caller read other jobs than before. */
  watchJobs(request: Requests['watchJobs'], call: Call): AsyncIterable<JobsMessage> {
    return seenJobs({ jobs: this.#jobs, policy: this.#policy }, request, this.#held(call));
  }

  readonly checkOperation: BlockJobs['checkOperation'] = async (request, call) => {
    const held = this.#held(call);
    const { reasons, blocking } = await this.#jobs.checkOperation(request, held);
    return { reasons, blocking: blocking.filter(({ job }) => may(held, 'read', job.accepted.domain)) };
  };

  readonly listLeftovers: BlockJobs['listLeftovers'] = async (request, call) => {
    const held = this.#held(call);
    return await readable(OLDEST_FIRST, request, held, {
      ask: async (at) => await this.#jobs.listLeftovers({ ...request, ...at }, held),
      domainOf: ({ domain }) => domain,
    });
  };

  readonly reclaim: BlockJobs['reclaim'] = async (request, call) => {
    const held = this.#held(call);
    const looked = await this.#jobs.reclaim({ ...request, apply: false, requestId: '' }, held);
    const isHidden = ({ leftover }: ReclaimResult) => leftover !== undefined && !may(held, 'read', leftover.domain);
    const dry = looked.map((one) => (isHidden(one) ? { id: one.id, leftover: undefined, failure: undefined } : one));
    for (const { leftover } of dry) {
      if (leftover !== undefined) mustOperate(held, leftover.domain, unknownDomain(leftover.domain));
    }
    if (!request.apply) return dry;
    // The policy was not asked about objects that appear between the two looks.
    const ids = dry.filter(({ leftover }) => leftover !== undefined).map(({ id }) => id);
    const done = ids.length === 0 ? [] : await this.#jobs.reclaim({ ...request, ids }, held);
    return dry.map((one) => done.find(({ id }) => id === one.id) ?? one);
  };

  readonly listDomains: BlockJobs['listDomains'] = async (request, call) => {
    const held = this.#held(call);
    return await readable(BY_NAME, request, held, {
      ask: async (at) => await this.#jobs.listDomains({ ...request, ...at }, held),
      domainOf: ({ name }) => name,
    });
  };

  readonly getDomain: BlockJobs['getDomain'] = async (name, call) => {
    const held = this.#held(call);
    const found = await this.#jobs.getDomain(name, held);
    mustRead(held, found.domain.name, unknownDomain(name));
    return found;
  };

  /** Refuses callers that the policy does not name. */
  mayAsk({ caller }: Call): void {
    if (caller === undefined) refuseNameless();
    if (!this.#policy.now.names(caller)) fail('CALLER_NOT_ALLOWED', { caller, operation: 'read', domain: '*' });
  }

  /** The call with the caller's rights; they are read from the policy at each check. */
  #held(call: Call): Call {
    const { caller, rights = [] } = call;
    if (caller === undefined) refuseNameless();
    return { ...call, rights: [...rights, () => this.#policy.now.grantOf(caller)] };
  }

  protected override changing<Rpc extends keyof Changing>(rpc: Rpc) {
    return async (request: Requests[Rpc], call: Call): Promise<JobView> => {
      const jobs: Changing = this.#jobs;
      return await this.#shown(request.job, call, async (held) => await jobs[rpc](request, held));
    };
  }

  /** A call may last for hours, and its caller lose rights meanwhile. */
  async #shown(ref: JobRef, call: Call, ask: (held: Call) => Promise<JobView>): Promise<JobView> {
    const held = this.#held(call);
    const view = await ask(held);
    mustRead(held, view.job.accepted.domain, unknownFor(ref));
    return view;
  }

  protected override starting<Rpc extends keyof Starting>(rpc: Rpc) {
    return async (request: Requests[Rpc], call: Call): Promise<Started> => {
      const [jobs, held]: [Starting, Call] = [this.#jobs, this.#held(call)];
      const started = await jobs[rpc](request, held);
      const { domain } = 'etag' in started ? started.accepted : started.job.accepted;
      mustRead(held, domain, unknownDomain(request.disk.domain));
      return started;
    };
  }
}

/** Many items are left out: they are read in as few calls as possible. */
const MOST = 500;

/**
 * As many items as requested, if the caller may read so many. A token is the position of an item: one that the caller
 * may read, because others would show it their names.
 */
async function readable<Item>(
  order: Order<Item>,
  asked: PageAsked,
  held: Call,
  { ask, domainOf }: { ask: (at: PageAsked) => Promise<Page<Item>>; domainOf: (item: Item) => string },
): Promise<Page<Item>> {
  const mayRead = (item: Item) => may(held, 'read', domainOf(item));
  held.signal.throwIfAborted();
  let found = await ask(asked);
  if (found.items.every(mayRead)) return found;
  const items = found.items.filter(mayRead);
  const unreachable = new Set(found.unreachableHosts);
  while (found.nextPageToken !== '' && items.length <= pageSize(asked.pageSize)) {
    held.signal.throwIfAborted();
    found = await ask({ pageSize: MOST, pageToken: found.nextPageToken });
    items.push(...found.items.filter(mayRead));
    for (const host of found.unreachableHosts) unreachable.add(host);
  }
  return { ...page(items, order, asked), unreachableHosts: [...unreachable].toSorted() };
}

function mustRead(call: Call, domain: string, unknown: Failure): void {
  if (!may(call, 'read', domain)) notThere(unknown, call, domain);
}

function unknownDomain(domain: string): Failure {
  return failure('DOMAIN_NOT_FOUND', { domain });
}

function refuseNameless(): never {
  fail('CALLER_UNKNOWN', { why: 'it has neither a SPIFFE id nor a DNS name' });
}
