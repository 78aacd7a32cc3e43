/** The services: each handler turns a message into core words, and the answer back. reading.ts has the reading ones. */
import type { handleServerStreamingCall, handleUnaryCall, UntypedServiceImplementation } from '@grpc/grpc-js';
import type {
  BlockJobServiceServer,
  GetInfoRequest,
  SetSpeedRequest,
  StartCopyRequest,
  WatchJobRequest,
  WatchJobsRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import type { DomainServiceServer } from '../../generated/blockjob/v1/domain_service.ts';
import type { JobRef } from '../../generated/blockjob/v1/job.ts';
import type { GetServerInfoRequest, ServerServiceServer } from '../../generated/blockjob/v1/server_service.ts';
import type { BlockJobs, Call, Requests } from '../core/block-jobs.ts';
import { CALLS, type Changing, type Operating, type Reading, type Starting } from '../core/calls.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { fromJobView, fromReclaimResult, fromStarted } from './answers.ts';
import { type CallContext, serverStream } from './call.ts';
import { readingOf, serverInfoFor } from './reading.ts';
import { toAbortRequest, toChangeRequest, toCommitRequest, toCopyRequest, toRebaseRequest } from './requests.ts';
import { type Audit, unary } from './unary.ts';

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

/** The answers are encoded messages. */
interface Encoded {
  readonly getInfo: handleUnaryCall<GetInfoRequest, Uint8Array>;
  readonly watchJob: handleServerStreamingCall<WatchJobRequest, Uint8Array>;
  readonly watchJobs: handleServerStreamingCall<WatchJobsRequest, Uint8Array>;
}

export function blockJobHandlers(
  jobs: BlockJobs,
  context: CallContext,
): Omit<Handlers<BlockJobServiceServer>, keyof Encoded> & Encoded {
  const { read, write } = servedBy(context);
  const [starting, changing]: [Starting, Changing] = [jobs, jobs];
  const start = <Rpc extends keyof Starting, Request extends Pick<StartCopyRequest, 'disk'>>(
    rpc: Rpc,
    toRequest: (message: Request) => Requests[Rpc],
    audit: Audit<Request>,
  ) =>
    write(
      rpc,
      async (message: Request, call) => fromStarted(await starting[rpc](toRequest(message), call)),
      (message) => ({ domain: message.disk?.domain, disk: message.disk?.disk, ...audit(message) }),
    );
  const change = <Rpc extends keyof Changing, Request extends { job?: JobRef | undefined }>(
    rpc: Rpc,
    toRequest: (message: Request) => Requests[Rpc],
    audit: Audit<Request> = () => ({}),
  ) =>
    write(
      rpc,
      async (message: Request, call) => ({ job: fromJobView(await changing[rpc](toRequest(message), call)) }),
      (message) => ({ job: message.job?.name?.value, ...audit(message) }),
    );
  const reading = readingOf(jobs);
  return {
    startCopy: start('startCopy', toCopyRequest, ({ destination }) => ({ destination: destination?.target?.value })),
    rebase: start('rebase', toRebaseRequest, ({ base, flags }) => ({ base, flags })),
    commit: start('commit', toCommitRequest, ({ base, top, flags }) => ({ base, top, flags })),
    abort: change('abort', toAbortRequest, ({ pivot, force, record, recordOnly }) => ({
      pivot,
      force,
      ...(record && { record: record.token, recordOnly }),
    })),
    setSpeed: change('setSpeed', toChangeRequest<SetSpeedRequest>, ({ bandwidthBytesPerSecond }) => ({
      bandwidth: String(bandwidthBytesPerSecond),
    })),
    pause: change('pause', toChangeRequest),
    resume: change('resume', toChangeRequest),
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
    getServerInfo: unary(context, 'GetServerInfo', async (_request: GetServerInfoRequest, call) => {
      mayAsk(call);
      return await Promise.resolve(serverInfoFor(call.caller, info));
    }),
  };
}
