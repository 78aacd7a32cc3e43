/** The two services: each handler turns a message into core words, asks BlockJobs, and turns the answer back. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type {
  AbortRequest,
  AbortResponse,
  BlockJobServiceServer,
  CommitRequest,
  GetInfoRequest,
  GetInfoResponse,
  ListJobsRequest,
  ListJobsResponse,
  ListLeftoversRequest,
  ListLeftoversResponse,
  PauseRequest,
  PauseResponse,
  RebaseRequest,
  ReclaimRequest,
  ReclaimResponse,
  ResumeRequest,
  ResumeResponse,
  SetSpeedRequest,
  SetSpeedResponse,
  StartCopyRequest,
  StartCopyResponse,
  WatchJobRequest,
  WatchJobResponse,
} from '../../generated/blockjob/v1/block_job_service.ts';
import type {
  CheckOperationRequest,
  CheckOperationResponse,
  DomainServiceServer,
  GetDomainRequest,
  GetDomainResponse,
  ListDomainsRequest,
  ListDomainsResponse,
} from '../../generated/blockjob/v1/domain_service.ts';
import type { BlockJobs, Call, JobEvent, Started } from '../core/block-jobs.ts';
import { fromJobEvent, fromJobView, fromLeftover, fromReclaimResult, fromStarted } from './answers.ts';
import { type CallContext, serverStream, unary } from './call.ts';
import { fromDomain } from './domain-answers.ts';
import {
  toAbortRequest,
  toCheckOperationRequest,
  toCommitRequest,
  toCopyRequest,
  toJobRef,
  toListJobsRequest,
  toPauseRequest,
  toRebaseRequest,
  toSetSpeedRequest,
  toWatchRequest,
} from './requests.ts';

type Handlers<Server extends UntypedServiceImplementation> = {
  readonly [Rpc in keyof Server as string extends Rpc ? never : Rpc]: Server[Rpc];
};

export function blockJobHandlers(jobs: BlockJobs, context: CallContext): Handlers<BlockJobServiceServer> {
  const start = <Request extends Pick<StartCopyRequest, 'disk'>>(
    rpc: string,
    run: (request: Request, call: Call) => Promise<Started>,
    audit: (request: Request) => Readonly<Record<string, unknown>>,
  ) =>
    unary<Request, StartCopyResponse>(
      context,
      rpc,
      async (request, call) => fromStarted(await run(request, call)),
      (request) => ({ domain: request.disk?.domain, disk: request.disk?.disk, ...audit(request) }),
    );
  // All watchers of a job get the same events.
  const messages = new WeakMap<JobEvent, WatchJobResponse>();
  return {
    startCopy: start<StartCopyRequest>(
      'StartCopy',
      async (request, call) => await jobs.startCopy(toCopyRequest(request), call),
      ({ destination }) => ({ destination: destination?.target?.value }),
    ),
    rebase: start<RebaseRequest>(
      'Rebase',
      async (request, call) => await jobs.rebase(toRebaseRequest(request), call),
      ({ base, flags }) => ({ base, flags }),
    ),
    commit: start<CommitRequest>(
      'Commit',
      async (request, call) => await jobs.commit(toCommitRequest(request), call),
      ({ base, top, flags }) => ({ base, top, flags }),
    ),
    abort: unary<AbortRequest, AbortResponse>(
      context,
      'Abort',
      async (request, call) => ({ job: fromJobView(await jobs.abort(toAbortRequest(request), call)) }),
      ({ job, pivot, force }) => ({ job: job?.ref?.value, pivot, force }),
    ),
    getInfo: unary<GetInfoRequest, GetInfoResponse>(context, 'GetInfo', async ({ job }, call) => ({
      job: fromJobView(await jobs.getInfo(toJobRef(job), call)),
    })),
    listJobs: unary<ListJobsRequest, ListJobsResponse>(context, 'ListJobs', async (request, call) => {
      const { items, nextPageToken, unreachableHosts } = await jobs.listJobs(toListJobsRequest(request), call);
      return { jobs: items.map(fromJobView), nextPageToken, unreachableHosts: [...unreachableHosts] };
    }),
    watchJob: serverStream<WatchJobRequest, WatchJobResponse>(context, 'WatchJob', async function* (request, call) {
      for await (const event of jobs.watch(toWatchRequest(request), call)) {
        const message = messages.get(event) ?? { event: fromJobEvent(event) };
        messages.set(event, message);
        yield message;
      }
    }),
    setSpeed: unary<SetSpeedRequest, SetSpeedResponse>(
      context,
      'SetSpeed',
      async (request, call) => ({ job: fromJobView(await jobs.setSpeed(toSetSpeedRequest(request), call)) }),
      ({ job, bandwidthBytesPerSecond }) => ({ job: job?.ref?.value, bandwidth: String(bandwidthBytesPerSecond) }),
    ),
    pause: unary<PauseRequest, PauseResponse>(
      context,
      'Pause',
      async (request, call) => ({ job: fromJobView(await jobs.pause(toPauseRequest(request), call)) }),
      ({ job }) => ({ job: job?.ref?.value }),
    ),
    resume: unary<ResumeRequest, ResumeResponse>(
      context,
      'Resume',
      async (request, call) => ({ job: fromJobView(await jobs.resume(toPauseRequest(request), call)) }),
      ({ job }) => ({ job: job?.ref?.value }),
    ),
    listLeftovers: unary<ListLeftoversRequest, ListLeftoversResponse>(
      context,
      'ListLeftovers',
      async (request, call) => {
        const { items, nextPageToken, unreachableHosts } = await jobs.listLeftovers(request, call);
        return { leftovers: items.map(fromLeftover), nextPageToken, unreachableHosts: [...unreachableHosts] };
      },
    ),
    reclaim: unary<ReclaimRequest, ReclaimResponse>(
      context,
      'Reclaim',
      async ({ leftoverIds: ids, apply, requestId }, call) => ({
        results: (await jobs.reclaim({ ids, apply, requestId }, call)).map(fromReclaimResult),
      }),
      ({ leftoverIds, apply }) => ({ leftoverIds, apply }),
    ),
  };
}

export function domainHandlers(jobs: BlockJobs, context: CallContext): Handlers<DomainServiceServer> {
  return {
    listDomains: unary<ListDomainsRequest, ListDomainsResponse>(context, 'ListDomains', async (request, call) => {
      const { items, nextPageToken, unreachableHosts } = await jobs.listDomains(request, call);
      const domains = items.map((domain) => fromDomain(domain));
      return { domains, nextPageToken, unreachableHosts: [...unreachableHosts] };
    }),
    getDomain: unary<GetDomainRequest, GetDomainResponse>(context, 'GetDomain', async (request, call: Call) => {
      const { domain, disks } = await jobs.getDomain(request.domain, call);
      return { domain: fromDomain(domain, disks) };
    }),
    checkOperation: unary<CheckOperationRequest, CheckOperationResponse>(
      context,
      'CheckOperation',
      async (request, call) => {
        await jobs.checkOperation(toCheckOperationRequest(request), call);
        return {};
      },
    ),
  };
}
