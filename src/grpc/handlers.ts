/** The services: each handler turns a message into core words, and the answer back. reading.ts has the reading ones. */
import type { handleServerStreamingCall, UntypedServiceImplementation } from '@grpc/grpc-js';
import type {
  BlockJobServiceServer,
  StartCopyRequest,
  WatchJobRequest,
  WatchJobsRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import type { DomainServiceServer } from '../../generated/blockjob/v1/domain_service.ts';
import type { JobRef } from '../../generated/blockjob/v1/job.ts';
import {
  type GetServerInfoRequest,
  type GetServerInfoResponse,
  type ServerServiceServer,
} from '../../generated/blockjob/v1/server_service.ts';
import type { BlockJobs, Call, Started } from '../core/block-jobs.ts';
import { CALLS, type Operating, type Reading } from '../core/calls.ts';
import type { JobView } from '../core/job/job-view.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { fromJobView, fromReclaimResult, fromStarted } from './answers.ts';
import { type Audit, type CallContext, serverStream, unary } from './call.ts';
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

/** Operating calls are audited: a service without an audit log cannot serve them. */
function servedBy(context: CallContext) {
  return {
    read: <Request, Response>(rpc: Reading, handle: (request: Request, call: Call) => Promise<Response>) =>
      unary(context, CALLS[rpc].rpc, handle),
    write: <Request, Response>(
      rpc: Operating,
      handle: (request: Request, call: Call) => Promise<Response>,
      audit: Audit<Request>,
    ) => unary(context, CALLS[rpc].rpc, handle, audit),
  };
}

interface Streams {
  /** Returns encoded messages. */
  readonly watchJob: handleServerStreamingCall<WatchJobRequest, Uint8Array>;
  readonly watchJobs: handleServerStreamingCall<WatchJobsRequest, Uint8Array>;
}

export function blockJobHandlers(
  jobs: BlockJobs,
  context: CallContext,
): Omit<Handlers<BlockJobServiceServer>, keyof Streams> & Streams {
  const { read, write } = servedBy(context);
  const start = <Request extends Pick<StartCopyRequest, 'disk'>>(
    rpc: Operating,
    run: (request: Request, call: Call) => Promise<Started>,
    audit: Audit<Request>,
  ) =>
    write(
      rpc,
      async (request: Request, call) => fromStarted(await run(request, call)),
      (request) => ({ domain: request.disk?.domain, disk: request.disk?.disk, ...audit(request) }),
    );
  const change = <Request extends { job?: JobRef | undefined }>(
    rpc: Operating,
    run: (request: Request, call: Call) => Promise<JobView>,
    audit: Audit<Request> = () => ({}),
  ) =>
    write(
      rpc,
      async (request: Request, call) => ({ job: fromJobView(await run(request, call)) }),
      (request) => ({ job: request.job?.name?.value, ...audit(request) }),
    );
  const reading = readingOf(jobs);
  return {
    startCopy: start(
      'startCopy',
      async (request, call) => await jobs.startCopy(toCopyRequest(request), call),
      ({ destination }) => ({ destination: destination?.target?.value }),
    ),
    rebase: start(
      'rebase',
      async (request, call) => await jobs.rebase(toRebaseRequest(request), call),
      ({ base, flags }) => ({ base, flags }),
    ),
    commit: start(
      'commit',
      async (request, call) => await jobs.commit(toCommitRequest(request), call),
      ({ base, top, flags }) => ({ base, top, flags }),
    ),
    abort: change(
      'abort',
      async (request, call) => await jobs.abort(toAbortRequest(request), call),
      ({ pivot, force }) => ({ pivot, force }),
    ),
    setSpeed: change(
      'setSpeed',
      async (request, call) => await jobs.setSpeed(toSetSpeedRequest(request), call),
      ({ bandwidthBytesPerSecond }) => ({ bandwidth: String(bandwidthBytesPerSecond) }),
    ),
    pause: change('pause', async (request, call) => await jobs.pause(toPauseRequest(request), call)),
    resume: change('resume', async (request, call) => await jobs.resume(toPauseRequest(request), call)),
    getInfo: read('getInfo', reading.getInfo),
    listJobs: read('listJobs', reading.listJobs),
    watchJob: serverStream(context, CALLS.watch.rpc, reading.watchJob),
    watchJobs: serverStream(context, CALLS.watchJobs.rpc, reading.watchJobs),
    listLeftovers: read('listLeftovers', reading.listLeftovers),
    reclaim: write(
      'reclaim',
      async ({ leftoverIds: ids, apply, requestId }, call) => ({
        results: (await jobs.reclaim({ ids, apply, requestId }, call)).map(fromReclaimResult),
      }),
      ({ leftoverIds, apply }) => ({ leftoverIds, apply }),
    ),
  };
}

export function domainHandlers(jobs: BlockJobs, context: CallContext): Handlers<DomainServiceServer> {
  const reading = readingOf(jobs);
  const { read } = servedBy(context);
  return {
    listDomains: read('listDomains', reading.listDomains),
    getDomain: read('getDomain', reading.getDomain),
    checkOperation: read('checkOperation', reading.checkOperation),
  };
}

/** `mayAsk` throws for a caller without the right. */
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
