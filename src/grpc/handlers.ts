/**
 * The services: each handler turns a message into core words, asks BlockJobs, and turns the answer back. Those that
 * only read are in reading.ts.
 */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type {
  AbortRequest,
  AbortResponse,
  BlockJobServiceServer,
  CommitRequest,
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
} from '../../generated/blockjob/v1/block_job_service.ts';
import type { DomainServiceServer } from '../../generated/blockjob/v1/domain_service.ts';
import {
  type GetServerInfoRequest,
  type GetServerInfoResponse,
  type ServerServiceServer,
} from '../../generated/blockjob/v1/server_service.ts';
import type { BlockJobs, Call, Started } from '../core/block-jobs.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { fromJobView, fromReclaimResult, fromStarted } from './answers.ts';
import { type CallContext, serverStream, unary } from './call.ts';
import { readingOf, serverInfoFor } from './reading.ts';
import {
  toAbortRequest,
  toCommitRequest,
  toCopyRequest,
  toPauseRequest,
  toRebaseRequest,
  toSetSpeedRequest,
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
  const reading = readingOf(jobs);
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
    getInfo: unary(context, 'GetInfo', reading.getInfo),
    listJobs: unary(context, 'ListJobs', reading.listJobs),
    watchJob: serverStream(context, 'WatchJob', reading.watchJob),
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
    listLeftovers: unary(context, 'ListLeftovers', reading.listLeftovers),
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
  const reading = readingOf(jobs);
  return {
    listDomains: unary(context, 'ListDomains', reading.listDomains),
    getDomain: unary(context, 'GetDomain', reading.getDomain),
    checkOperation: unary(context, 'CheckOperation', reading.checkOperation),
  };
}

/** `mayAsk` throws for who may not. */
export function serverHandlers(
  info: ServerInfo,
  mayAsk: (call: Call) => void,
  context: CallContext,
): Handlers<ServerServiceServer> {
  return {
    getServerInfo: unary<GetServerInfoRequest, GetServerInfoResponse>(
      context,
      'GetServerInfo',
      async (_request, call): Promise<GetServerInfoResponse> => {
        mayAsk(call);
        return await Promise.resolve(serverInfoFor(call.caller, info));
      },
    ),
  };
}
