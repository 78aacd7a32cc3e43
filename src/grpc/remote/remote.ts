/** BlockJobs of a remote service: each method is one call of the contract. */
import type { MethodDefinition } from '@grpc/grpc-js';
import {
  BlockJobServiceService as Jobs,
  type StartCopyRequest,
  type StartCopyResponse,
} from '../../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceService as Domains } from '../../../generated/blockjob/v1/domain_service.ts';
import type { BlockJobs, Call, Requests, Started } from '../../core/block-jobs.ts';
import { fail } from '../../core/errors.ts';
import type { JobEvent } from '../../core/job/job-event.ts';
import { hasLabels } from '../../core/job/labels.ts';
import type { JobsMessage } from '../../core/jobs-message.ts';
import { GATES_SINCE, LABELS_SINCE, POLICIES_SINCE } from '../versions.ts';
import { toJobEvent, toJobView, toStarted } from './answers.ts';
import { RemoteCalls, type RemoteOptions } from './calls.ts';
import { toDomain, toDomainDisk } from './domains.ts';
import { failureOf } from './failure.ts';
import { fromWatchJobsRequest, toJobsMessage } from './jobs-messages.ts';
import { toForeignJob, toLeftover, toReclaimResult } from './leftovers.ts';
import {
  fromAbortRequest,
  fromChangeRequest,
  fromCheckOperationRequest,
  fromCommitRequest,
  fromCopyRequest,
  fromJobRef,
  fromListJobsRequest,
  fromRebaseRequest,
  fromWatchRequest,
} from './requests.ts';

export class Remote implements BlockJobs, Disposable {
  readonly #host: string;
  readonly #calls: RemoteCalls;

  constructor(options: RemoteOptions) {
    this.#host = options.host;
    this.#calls = new RemoteCalls(options);
  }

  /** An older agent would start the job, and drop its policy. */
  readonly startCopy: BlockJobs['startCopy'] = async (request, call) => {
    if (request.endPolicy !== undefined) await this.#calls.needs('end_policy', POLICIES_SINCE, call);
    return await this.#start(call, Jobs.startCopy, fromCopyRequest(request));
  };

  readonly rebase: BlockJobs['rebase'] = async (request, call) =>
    await this.#start(call, Jobs.rebase, fromRebaseRequest(request));

  readonly commit: BlockJobs['commit'] = async (request, call) =>
    await this.#start(call, Jobs.commit, fromCommitRequest(request));

  readonly getInfo: BlockJobs['getInfo'] = async (ref, call) =>
    toJobView((await this.#calls.ask(call, Jobs.getInfo, { job: fromJobRef(ref) })).job);

  readonly listJobs: BlockJobs['listJobs'] = async (request, call) => {
    const message = fromListJobsRequest(request);
    const { jobs, foreignJobs, ...page } = await this.#calls.ask(call, Jobs.listJobs, message);
    // An older agent does not know of labels, and lists all jobs.
    const items = jobs.map(toJobView).filter(({ job }) => hasLabels(job.accepted, request));
    return { ...page, items, foreignJobs: foreignJobs.map(toForeignJob) };
  };

  /** An older agent would pivot without a look at the record. */
  readonly abort: BlockJobs['abort'] = async (request, call) => {
    if (request.record !== undefined) await this.#calls.needs('record', GATES_SINCE, call);
    return toJobView((await this.#calls.ask(call, Jobs.abort, fromAbortRequest(request))).job);
  };

  readonly setSpeed: BlockJobs['setSpeed'] = async (request, call) =>
    toJobView((await this.#calls.ask(call, Jobs.setSpeed, fromChangeRequest(request))).job);

  readonly pause: BlockJobs['pause'] = async (request, call) =>
    toJobView((await this.#calls.ask(call, Jobs.pause, fromChangeRequest(request))).job);

  readonly resume: BlockJobs['resume'] = async (request, call) =>
    toJobView((await this.#calls.ask(call, Jobs.resume, fromChangeRequest(request))).job);

  async *watch(request: Requests['watch'], call: Call): AsyncIterable<JobEvent> {
    for await (const { event } of this.#calls.read(call, Jobs.watchJob, fromWatchRequest(request)))
      yield toJobEvent(event);
  }

  async *watchJobs(request: Requests['watchJobs'], call: Call): AsyncIterable<JobsMessage> {
    for await (const told of this.#calls.read(call, Jobs.watchJobs, fromWatchJobsRequest(request))) {
      const message = toJobsMessage(told, this.#host, request);
      if (message !== undefined) yield message;
    }
  }

  readonly checkOperation: BlockJobs['checkOperation'] = async (request, call) => {
    const message = fromCheckOperationRequest(request);
    const { reasons, blockingJobs } = await this.#calls.ask(call, Domains.checkOperation, message);
    return { reasons: reasons.map(failureOf), blocking: blockingJobs.map(toJobView) };
  };

  readonly listLeftovers: BlockJobs['listLeftovers'] = async (request, call) => {
    const { leftovers, ...page } = await this.#calls.ask(call, Jobs.listLeftovers, request);
    return { ...page, items: leftovers.map(toLeftover) };
  };

  readonly reclaim: BlockJobs['reclaim'] = async ({ ids, ...request }, call) => {
    const message = { ...request, leftoverIds: [...ids] };
    const { results } = await this.#calls.ask(call, Jobs.reclaim, message);
    return results.map(toReclaimResult);
  };

  readonly listDomains: BlockJobs['listDomains'] = async (request, call) => {
    const { domains, ...page } = await this.#calls.ask(call, Domains.listDomains, request);
    return { ...page, items: domains.map(toDomain) };
  };

  readonly getDomain: BlockJobs['getDomain'] = async (name, call) => {
    const { domain } = await this.#calls.ask(call, Domains.getDomain, { domain: name });
    if (domain === undefined) fail('HOST_UNREACHABLE', { host: this.#host, why: 'it answers without a domain' });
    return { domain: toDomain(domain), disks: domain.disks.map(toDomainDisk) };
  };

  [Symbol.dispose](): void {
    this.#calls[Symbol.dispose]();
  }

  /** An older agent would start the job, and drop its labels, the gate of its pivot, or its end policy. */
  async #start<Request extends Pick<StartCopyRequest, 'labels' | 'configOwner'> & Partial<StartCopyRequest>>(
    call: Call,
    rpc: MethodDefinition<Request, StartCopyResponse>,
    request: Request,
  ): Promise<Started> {
    if (Object.keys(request.labels).length > 0) await this.#calls.needs('labels', LABELS_SINCE, call);
    if (request.configOwner !== 0) await this.#calls.needs('config_owner', GATES_SINCE, call);
    if (request.endPolicy !== undefined) await this.#calls.needs('end_policy', POLICIES_SINCE, call);
    return toStarted(await this.#calls.ask(call, rpc, request));
  }
}
