/** A client of a service: each call as a promise, and the decoded refusals. */
import { type ChannelOptions, type Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import {
  AbortRequest,
  type AbortResponse,
  BlockJobServiceClient,
  CommitRequest,
  GetInfoRequest,
  type GetInfoResponse,
  ListJobsRequest,
  type ListJobsResponse,
  ListLeftoversRequest,
  type ListLeftoversResponse,
  PauseRequest,
  type PauseResponse,
  type Plan,
  RebaseRequest,
  ReclaimRequest,
  type ReclaimResponse,
  ResumeRequest,
  type ResumeResponse,
  SetSpeedRequest,
  type SetSpeedResponse,
  StartCopyRequest,
  type StartCopyResponse,
  WatchJobRequest,
  type WatchJobResponse,
} from '../../../generated/blockjob/v1/block_job_service.ts';
import {
  CheckOperationRequest,
  type CheckOperationResponse,
  DomainServiceClient,
  GetDomainRequest,
  type GetDomainResponse,
  ListDomainsRequest,
  type ListDomainsResponse,
} from '../../../generated/blockjob/v1/domain_service.ts';
import { type Job, Job_State, type JobEvent } from '../../../generated/blockjob/v1/job.ts';
import { type GetServerInfoResponse, ServerServiceClient } from '../../../generated/blockjob/v1/server_service.ts';
import { BadRequest, ErrorInfo } from '../../../generated/google/rpc/error_details.ts';
import { Status } from '../../../generated/google/rpc/status.ts';
import { within } from '../real-qemu/qemu.ts';

type Request<T extends { fromPartial(object: never): unknown }> = Parameters<T['fromPartial']>[0];

/** A refused call: gRPC's code, and the contents of ErrorInfo. */
export interface Refusal {
  readonly code: number;
  readonly reason: string;
  readonly domain: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly message: string;
  readonly fields: readonly string[];
}

export class Caller {
  readonly address: string;
  readonly blockJobs: BlockJobServiceClient;
  readonly domains: DomainServiceClient;
  readonly server: ServerServiceClient;

  constructor(address: string, channel = credentials.createInsecure(), options: ChannelOptions = {}) {
    this.address = address;
    this.blockJobs = new BlockJobServiceClient(address, channel, options);
    this.domains = new DomainServiceClient(address, channel, options);
    this.server = new ServerServiceClient(address, channel, options);
  }

  close(): void {
    this.blockJobs.close();
    this.domains.close();
    this.server.close();
  }

  async startCopy(request: Request<typeof StartCopyRequest>): Promise<Job> {
    return await this.start('startCopy', StartCopyRequest.fromPartial(request));
  }

  async rebase(request: Request<typeof RebaseRequest>): Promise<Job> {
    return await this.start('rebase', RebaseRequest.fromPartial(request));
  }

  async commit(request: Request<typeof CommitRequest>): Promise<Job> {
    return await this.start('commit', CommitRequest.fromPartial(request));
  }

  /** With validate_only: the plan. */
  async planOf(
    rpc: 'startCopy' | 'rebase' | 'commit',
    message: StartCopyRequest | RebaseRequest | CommitRequest,
  ): Promise<Plan> {
    const request = { ...message, validateOnly: true };
    const { result } = await call<StartCopyResponse>(this.blockJobs, rpc, request);
    if (result?.$case === 'job') throw new Error(`a job was started: ${result.value.id}`);
    return present(result?.value);
  }

  async start(
    rpc: 'startCopy' | 'rebase' | 'commit',
    request: StartCopyRequest | RebaseRequest | CommitRequest,
  ): Promise<Job> {
    return jobOf(await call<StartCopyResponse>(this.blockJobs, rpc, request));
  }

  async abort(request: Request<typeof AbortRequest>): Promise<NonNullable<AbortResponse['job']>> {
    const { job } = await call<AbortResponse>(this.blockJobs, 'abort', AbortRequest.fromPartial(request));
    return present(job);
  }

  async setSpeed(
    jobId: string,
    bandwidthBytesPerSecond: bigint,
    requestId = '',
  ): Promise<NonNullable<SetSpeedResponse['job']>> {
    const request = SetSpeedRequest.fromPartial({ job: byId(jobId), bandwidthBytesPerSecond, requestId });
    return present((await call<SetSpeedResponse>(this.blockJobs, 'setSpeed', request)).job);
  }

  async pause(jobId: string, requestId = ''): Promise<NonNullable<PauseResponse['job']>> {
    const request = PauseRequest.fromPartial({ job: byId(jobId), requestId });
    return present((await call<PauseResponse>(this.blockJobs, 'pause', request)).job);
  }

  async resume(jobId: string, requestId = ''): Promise<NonNullable<ResumeResponse['job']>> {
    const request = ResumeRequest.fromPartial({ job: byId(jobId), requestId });
    return present((await call<ResumeResponse>(this.blockJobs, 'resume', request)).job);
  }

  async getInfo(jobId: string): Promise<NonNullable<GetInfoResponse['job']>> {
    const request = GetInfoRequest.fromPartial({ job: { name: { $case: 'jobId', value: jobId } } });
    const { job } = await call<GetInfoResponse>(this.blockJobs, 'getInfo', request);
    return present(job);
  }

  async listJobs(request: Request<typeof ListJobsRequest> = {}): Promise<ListJobsResponse> {
    return await call<ListJobsResponse>(this.blockJobs, 'listJobs', ListJobsRequest.fromPartial(request));
  }

  async listLeftovers(domain = ''): Promise<ListLeftoversResponse['leftovers']> {
    const request = ListLeftoversRequest.fromPartial({ domain });
    return (await call<ListLeftoversResponse>(this.blockJobs, 'listLeftovers', request)).leftovers;
  }

  async reclaim(leftoverIds: readonly string[], apply: boolean): Promise<ReclaimResponse['results']> {
    const request = ReclaimRequest.fromPartial({ leftoverIds: [...leftoverIds], apply });
    return (await call<ReclaimResponse>(this.blockJobs, 'reclaim', request)).results;
  }

  /** The first reason against it, as a refused call has it; undefined if the operation is allowed. */
  async checkOperation(
    request: Request<typeof CheckOperationRequest>,
  ): Promise<
    (Pick<Refusal, 'code' | 'reason' | 'metadata' | 'message'> & { readonly blocking: string[] }) | undefined
  > {
    const message = CheckOperationRequest.fromPartial(request);
    const answer = await call<CheckOperationResponse>(this.domains, 'checkOperation', message);
    const [first] = answer.reasons;
    if (answer.allowed !== (first === undefined)) throw new Error('it is allowed if there is no reason against it');
    return first && { ...reasonIn(first), blocking: answer.blockingJobs.map(({ id }) => id) };
  }

  async serverInfo(): Promise<NonNullable<GetServerInfoResponse['server']>> {
    return present((await call<GetServerInfoResponse>(this.server, 'getServerInfo', {})).server);
  }

  /** All pages of them. */
  async listDomains(): Promise<ListDomainsResponse['domains']> {
    const found: ListDomainsResponse['domains'] = [];
    let pageToken = '';
    do {
      const request = ListDomainsRequest.fromPartial({ pageToken, pageSize: 500 });
      const page = await call<ListDomainsResponse>(this.domains, 'listDomains', request);
      found.push(...page.domains);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    return found;
  }

  async getDomain(domain: string): Promise<NonNullable<GetDomainResponse['domain']>> {
    const request = GetDomainRequest.fromPartial({ domain });
    return present((await call<GetDomainResponse>(this.domains, 'getDomain', request)).domain);
  }

  /** Waits until a domain answers; the service finds sockets and connects in its own time. */
  async domainUp(domain: string, timeoutMs = 60_000): Promise<void> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const answer = await this.getDomain(domain).catch((error: unknown) => refusalOf(error).reason);
      if (typeof answer === 'object' && answer.error === undefined) return;
      if (Date.now() > until) throw new Error(`domain ${domain} is not up: ${JSON.stringify(answer)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** The events of a job; leaving the loop cancels the stream. */
  async *watch(jobId: string, afterRevision?: number): AsyncGenerator<JobEvent> {
    const stream = this.blockJobs.watchJob(
      WatchJobRequest.fromPartial({
        job: { name: { $case: 'jobId', value: jobId } },
        ...(afterRevision === undefined ? {} : { afterRevision: BigInt(afterRevision) }),
        progressInterval: { seconds: 0n, nanos: 100_000_000 },
      }),
    );
    try {
      for await (const { event } of stream as AsyncIterable<WatchJobResponse>) yield present(event);
    } finally {
      stream.cancel();
    }
  }

  /** The first event in one of these states; fails when the job ends in another. */
  async until(jobId: string, ...states: readonly (keyof typeof Job_State)[]): Promise<JobEvent> {
    const wanted = states.map((state) => Job_State[state]);
    const found = (async () => {
      for await (const event of this.watch(jobId)) if (wanted.includes(present(event.job).state)) return event;
      throw new Error(`job ${jobId} has ended otherwise: ${JSON.stringify(await this.getInfo(jobId), bigintAsText)}`);
    })();
    return await within(180_000, `job ${jobId} ${states.join(' or ')}`, found);
  }
}

/** The job that a call has started. */
export function jobOf({ result }: StartCopyResponse): Job {
  if (result?.$case !== 'job') throw new Error('no job was started');
  return result.value;
}

export function byId(jobId: string) {
  return { name: { $case: 'jobId', value: jobId } } as const;
}

type Unary<Res> = (
  request: object,
  metadata: Metadata,
  callback: (error: ServiceError | null, response: Res) => void,
) => unknown;

/** One call, with any client. */
export async function call<Res>(client: Client, method: string, request: object): Promise<Res> {
  return await new Promise((resolve, reject) => {
    const rpc = Reflect.get(client, method) as Unary<Res>;
    rpc.call(client, request, new Metadata(), (error, response) => {
      if (error === null) resolve(response);
      else reject(error);
    });
  });
}

/** The contents of a refused call, decoded. Throws an error that is not a refusal. */
export function refusalOf(error: unknown): Refusal {
  if (!(error instanceof Error && 'metadata' in error && error.metadata instanceof Metadata && 'code' in error))
    throw error;
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  const status = Buffer.isBuffer(bytes) ? Status.decode(bytes) : Status.fromPartial({});
  const detail = (name: string) => status.details.find(({ typeUrl }) => typeUrl.endsWith(`google.rpc.${name}`))?.value;
  const info = ErrorInfo.decode(detail('ErrorInfo') ?? Buffer.alloc(0));
  const bad = BadRequest.decode(detail('BadRequest') ?? Buffer.alloc(0));
  return {
    code: Number(error.code),
    reason: info.reason,
    domain: info.domain,
    metadata: info.metadata,
    message: error.message,
    fields: bad.fieldViolations.map(({ field }) => field),
  };
}

/** The error of a job; undefined if it has none. */
export function errorOf({
  error,
}: Pick<Job, 'error'>): Pick<Refusal, 'code' | 'reason' | 'metadata' | 'message'> | undefined {
  if (error === undefined) return undefined;
  return reasonIn(error);
}

function reasonIn(error: Status): Pick<Refusal, 'code' | 'reason' | 'metadata' | 'message'> {
  const info = error.details.find(({ typeUrl }) => typeUrl.endsWith('google.rpc.ErrorInfo'));
  const { reason, metadata } = ErrorInfo.decode(present(info).value);
  return { code: error.code, reason, metadata, message: error.message };
}

/** The refusal of a call; throws if it succeeds. */
export async function refused(answer: Promise<unknown>): Promise<Refusal> {
  try {
    await answer;
  } catch (error) {
    return refusalOf(error);
  }
  throw new Error('the call was not refused');
}

/** For a method whose messages stay encoded. */
export const AS_BYTES = {
  requestSerialize: (message: Buffer) => message,
  requestDeserialize: (message: Buffer) => message,
  responseSerialize: (message: Buffer) => message,
  responseDeserialize: (message: Buffer) => message,
} as const;

export function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the answer lacks what it must have');
  return value;
}
