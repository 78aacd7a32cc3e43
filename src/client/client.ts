/** The service as an object, with one method for each call of the contract, which documents it. */
import { randomUUID } from 'node:crypto';
import {
  AbortRequest,
  CommitRequest,
  type DeepPartial,
  GetInfoRequest,
  ListJobsRequest,
  ListLeftoversRequest,
  PauseRequest,
  type Plan,
  RebaseRequest,
  ReclaimRequest,
  ResumeRequest,
  SetSpeedRequest,
  StartCopyRequest,
  type StartCopyResponse,
  WatchJobRequest,
  WatchJobsRequest,
  type WatchJobsResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import {
  CheckOperationRequest,
  GetDomainRequest,
  ListDomainsRequest,
} from '../../generated/blockjob/v1/domain_service.ts';
import type { Job, JobEvent } from '../../generated/blockjob/v1/job.ts';
import { GetServerInfoRequest } from '../../generated/blockjob/v1/server_service.ts';
import { type Endpoint, Endpoints } from './endpoints.ts';
import type { CallOptions, ConnectOptions } from './options.ts';
import type { WatchOptions } from './stream.ts';
import { ask, type Rpc } from './unary.ts';
import { watch } from './watch.ts';
import { watchJobs } from './watch-jobs.ts';

/**
 * A write gets a request_id unless it has one, and is repeated with it while the service is away: its action is done
 * once. All methods throw BlockJobError, or the reason of the caller's own signal.
 */
export class BlockJobClient implements Disposable {
  readonly #options: ConnectOptions;
  readonly #endpoints: Endpoints;

  /** Connects at the first call. Throws if a certificate file cannot be read. */
  constructor(options: ConnectOptions) {
    this.#options = options;
    this.#endpoints = new Endpoints(options);
  }

  /** The current address. */
  get address(): string {
    return this.#endpoints.current.address;
  }

  async startCopy(request: DeepPartial<StartCopyRequest>, options?: CallOptions) {
    return startedOf(await this.#write(StartCopyRequest, ({ jobs }) => jobs.startCopy.bind(jobs), request, options));
  }

  async rebase(request: DeepPartial<RebaseRequest>, options?: CallOptions) {
    return startedOf(await this.#write(RebaseRequest, ({ jobs }) => jobs.rebase.bind(jobs), request, options));
  }

  async commit(request: DeepPartial<CommitRequest>, options?: CallOptions) {
    return startedOf(await this.#write(CommitRequest, ({ jobs }) => jobs.commit.bind(jobs), request, options));
  }

  async getInfo(request: DeepPartial<GetInfoRequest>, options?: CallOptions) {
    return await this.#read(GetInfoRequest, ({ jobs }) => jobs.getInfo.bind(jobs), request, options);
  }

  async listJobs(request: DeepPartial<ListJobsRequest> = {}, options?: CallOptions) {
    return await this.#read(ListJobsRequest, ({ jobs }) => jobs.listJobs.bind(jobs), request, options);
  }

  async setSpeed(request: DeepPartial<SetSpeedRequest>, options?: CallOptions) {
    return await this.#write(SetSpeedRequest, ({ jobs }) => jobs.setSpeed.bind(jobs), request, options);
  }

  async pause(request: DeepPartial<PauseRequest>, options?: CallOptions) {
    return await this.#write(PauseRequest, ({ jobs }) => jobs.pause.bind(jobs), request, options);
  }

  async resume(request: DeepPartial<ResumeRequest>, options?: CallOptions) {
    return await this.#write(ResumeRequest, ({ jobs }) => jobs.resume.bind(jobs), request, options);
  }

  async abort(request: DeepPartial<AbortRequest>, options?: CallOptions) {
    return await this.#write(AbortRequest, ({ jobs }) => jobs.abort.bind(jobs), request, options);
  }

  /**
   * The events of a job: every revision once and in order, even if server, gateway or network fail meanwhile. Ends
   * after the event that ends the job. Leaving the loop ends the watch, and does not affect the job.
   */
  watchJob(
    request: DeepPartial<WatchJobRequest>,
    options: WatchOptions = {},
  ): AsyncGenerator<JobEvent, void, undefined> {
    return watch(this.#endpoints, WatchJobRequest.fromPartial(request), { ...this.#options, ...options });
  }

  /**
   * The events of all jobs, and of those that begin meanwhile: every revision once and in order within a job, also when
   * server, gateway or network are lost meanwhile. Ends when the loop is left.
   */
  watchJobs(
    request: DeepPartial<WatchJobsRequest> = {},
    options: WatchOptions = {},
  ): AsyncGenerator<WatchJobsResponse, void, undefined> {
    return watchJobs(this.#endpoints, WatchJobsRequest.fromPartial(request), { ...this.#options, ...options });
  }

  async listLeftovers(request: DeepPartial<ListLeftoversRequest> = {}, options?: CallOptions) {
    return await this.#read(ListLeftoversRequest, ({ jobs }) => jobs.listLeftovers.bind(jobs), request, options);
  }

  async reclaim(request: DeepPartial<ReclaimRequest>, options?: CallOptions) {
    return await this.#write(ReclaimRequest, ({ jobs }) => jobs.reclaim.bind(jobs), request, options);
  }

  async listDomains(request: DeepPartial<ListDomainsRequest> = {}, options?: CallOptions) {
    return await this.#read(ListDomainsRequest, ({ domains }) => domains.listDomains.bind(domains), request, options);
  }

  async getDomain(request: DeepPartial<GetDomainRequest>, options?: CallOptions) {
    return await this.#read(GetDomainRequest, ({ domains }) => domains.getDomain.bind(domains), request, options);
  }

  async checkOperation(request: DeepPartial<CheckOperationRequest>, options?: CallOptions) {
    return await this.#read(
      CheckOperationRequest,
      ({ domains }) => domains.checkOperation.bind(domains),
      request,
      options,
    );
  }

  /** From the current address. */
  async getServerInfo(options?: CallOptions) {
    return await this.#read(GetServerInfoRequest, ({ server }) => server.getServerInfo.bind(server), {}, options);
  }

  close(): void {
    this.#endpoints[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #read<Request, Response>(
    type: Message<Request>,
    rpc: (endpoint: Endpoint) => Rpc<Request, Response>,
    request: DeepPartial<Request>,
    options: CallOptions = {},
  ): Promise<Response> {
    const message = type.fromPartial(request);
    return await ask(this.#endpoints, 'read', rpc, message, { ...this.#options, ...options });
  }

  async #write<Request extends { requestId: string }, Response>(
    type: Message<Request>,
    rpc: (endpoint: Endpoint) => Rpc<Request, Response>,
    request: DeepPartial<Request>,
    options: CallOptions = {},
  ): Promise<Response> {
    const message = type.fromPartial(request);
    if (message.requestId === '') message.requestId = randomUUID();
    return await ask(this.#endpoints, 'write', rpc, message, { ...this.#options, ...options });
  }
}

/** The answer to a call that starts a job. */
export interface Started {
  /** Without validateOnly. */
  readonly job: Job | undefined;
  /** With validateOnly. */
  readonly plan: Plan | undefined;
}

function startedOf({ result }: StartCopyResponse): Started {
  return {
    job: result?.$case === 'job' ? result.value : undefined,
    plan: result?.$case === 'plan' ? result.value : undefined,
  };
}

interface Message<T> {
  fromPartial(object: DeepPartial<T>): T;
}
