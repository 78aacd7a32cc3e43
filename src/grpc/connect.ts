/** The reading methods of the contract, for browsers: through Connect, which is HTTP in their form. */
import type { RequestListener } from 'node:http';
import {
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import { compressionGzip, connectNodeAdapter } from '@connectrpc/connect-node';
import type { MethodDefinition } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { BlockJobServiceService as Jobs } from '../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceService as Domains } from '../../generated/blockjob/v1/domain_service.ts';
import { ServerServiceService as Server } from '../../generated/blockjob/v1/server_service.ts';
import { BlockJobService } from '../../generated/es/blockjob/v1/block_job_service_pb.js';
import { DomainService } from '../../generated/es/blockjob/v1/domain_service_pb.js';
import { ServerService } from '../../generated/es/blockjob/v1/server_service_pb.js';
import { Status } from '../../generated/google/rpc/status.ts';
import type { BlockJobs, Call } from '../core/block-jobs.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { decoded } from './bounded.ts';
import { readingOf, serverInfoFor } from './reading.ts';
import { answerTo } from './status.ts';

/** A request is a name or two. */
const LARGEST_REQUEST_BYTES = 64 * 1024;
/** Numbered as gRPC's. */
const CODES = Object.values(Code).filter((one) => typeof one === 'number');

export interface ConnectProtocolOptions {
  /** The program that answers. */
  readonly info: ServerInfo;
  readonly log: Logger;
  /** Aborted when the server ends: calls and streams end with its reason. */
  readonly ends: AbortSignal;
}

/** The rest of the contract is not found here. */
export function connectHandler(jobs: BlockJobs, options: ConnectProtocolOptions): RequestListener {
  const reading = readingOf(jobs);
  return connectNodeAdapter({
    grpc: false,
    grpcWeb: false,
    // A page of another site cannot send it without a preflight request, which is not answered.
    requireConnectProtocolHeader: true,
    readMaxBytes: LARGEST_REQUEST_BYTES,
    // Not Brotli: at its best level a page of jobs takes longer than a second.
    acceptCompression: [compressionGzip],
    // Events are smaller. There are many of them, and each would be compressed alone.
    compressMinBytes: 16 * 1024,
    shutdownSignal: options.ends,
    routes: (router) => {
      const { getInfo, listJobs, watchJob, watchJobs, listLeftovers } = BlockJobService.method;
      unary(router, getInfo, Jobs.getInfo, reading.getInfo, options);
      unary(router, listJobs, Jobs.listJobs, reading.listJobs, options);
      serverStream(router, watchJob, Jobs.watchJob, reading.watchJob, options);
      serverStream(router, watchJobs, Jobs.watchJobs, reading.watchJobs, options);
      unary(router, listLeftovers, Jobs.listLeftovers, reading.listLeftovers, options);
      const { listDomains, getDomain, checkOperation } = DomainService.method;
      unary(router, listDomains, Domains.listDomains, reading.listDomains, options);
      unary(router, getDomain, Domains.getDomain, reading.getDomain, options);
      unary(router, checkOperation, Domains.checkOperation, reading.checkOperation, options);
      const { getServerInfo } = ServerService.method;
      const tell = async () => await Promise.resolve(serverInfoFor(undefined, options.info));
      unary(router, getServerInfo, Server.getServerInfo, tell, options);
    },
  });
}

function unary<Request, Response>(
  router: ConnectRouter,
  method: DescMethodUnary,
  definition: MethodDefinition<Request, Response>,
  handle: (request: Request, call: Call) => Promise<Response | Uint8Array>,
  options: ConnectProtocolOptions,
): void {
  const { take, give } = bridge(method, definition);
  router.rpc(method, async (request, { signal }) => {
    try {
      return give(await handle(take(request), { signal }));
    } catch (error) {
      throw connectErrorOf(error, signal, options);
    }
  });
}

/** Stream messages are encoded already. */
function serverStream<Request, Response>(
  router: ConnectRouter,
  method: DescMethodServerStreaming,
  definition: MethodDefinition<Request, Response>,
  handle: (request: Request, call: Call) => AsyncIterable<Uint8Array>,
  options: ConnectProtocolOptions,
): void {
  const { take } = bridge(method, definition);
  router.rpc(method, async function* (request, { signal }) {
    try {
      for await (const bytes of handle(take(request), { signal })) yield fromBinary(method.output, bytes);
      // The watcher resumes by revision if this ends too early.
      options.ends.throwIfAborted();
    } catch (error) {
      throw connectErrorOf(error, signal, options);
    }
  });
}

/** Between the messages of Connect's library and those of gRPC's: the bytes are the same. */
function bridge<Request, Response>(
  { input, output }: DescMethodUnary | DescMethodServerStreaming,
  definition: MethodDefinition<Request, Response>,
) {
  return {
    take: (message: MessageShape<typeof input>) => decoded(definition, Buffer.from(toBinary(input, message))),
    /** Some are encoded already. */
    give: (message: Response | Uint8Array) =>
      fromBinary(output, message instanceof Uint8Array ? message : definition.responseSerialize(message)),
  };
}

/** The same code, words and details as through gRPC. */
function connectErrorOf(thrown: unknown, signal: AbortSignal, { log, ends }: ConnectProtocolOptions): ConnectError {
  // Nobody reads the answer any more, and the end of a wait is not an error.
  if (signal.aborted && !ends.aborted) return ConnectError.from(signal.reason, Code.Canceled);
  const { code, details: message, metadata } = answerTo(thrown, log);
  const [bytes] = metadata.get('grpc-status-details-bin');
  const { details } = Status.decode(Buffer.from(bytes ?? ''));
  const error = new ConnectError(
    message,
    CODES.find((one) => String(one) === String(code)),
  );
  error.details = details.map(({ typeUrl, value }) => ({ type: typeUrl.slice(typeUrl.indexOf('/') + 1), value }));
  return error;
}
