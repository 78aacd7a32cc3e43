/** The calls to a remote service, and their ends. */
import { addAbortListener } from 'node:events';
import {
  type ChannelCredentials,
  Client,
  type ClientOptions,
  Metadata,
  type MethodDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { ServerServiceService } from '../../../generated/blockjob/v1/server_service.ts';
import type { Call } from '../../core/block-jobs.ts';
import { BlockJobError } from '../../core/errors.ts';
import { dateAt } from '../../lib/clock.ts';
import { NOBODY, type Observer } from '../../lib/observer.ts';
import { VERSION } from '../../lib/version.ts';
import { CALLER_HEADER, EPOCH_HEADER, RIGHTS_HEADER } from '../identity.ts';
import { agentTooOld, isBefore, VERSION_HEADER } from '../versions.ts';
import { errorOf, isUnknownCall } from './failure.ts';
import { observing, rpcOf } from './observing.ts';

const OPTIONS: ClientOptions = {
  // A vanished or hanging host is found in this time: callers wait no longer. An answer may be a page of jobs.
  'grpc.keepalive_time_ms': 3000,
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.max_receive_message_length': 16 * 1024 * 1024,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2000,
  // An agent is at the address in the directory, not behind the proxy of this machine.
  'grpc.enable_http_proxy': 0,
  // The caller decides about repeating a call, because it knows the request.
  'grpc.enable_retries': 0,
};

export interface RemoteOptions {
  /** For messages. */
  readonly host: string;
  /** As gRPC writes it: HOST:PORT, or unix:/PATH. */
  readonly address: string;
  readonly credentials: ChannelCredentials;
  readonly observer?: Observer | undefined;
}

export class RemoteCalls implements Disposable {
  readonly #host: string;
  readonly #client: Client;

  constructor({ host, address, credentials, observer = NOBODY }: RemoteOptions) {
    this.#host = host;
    this.#client = new Client(address, credentials, { ...OPTIONS, interceptors: [observing(observer, host)] });
  }

  /** One unary call, cancelled when the caller leaves, and limited by the caller's deadline. */
  async ask<Request, Response>(
    call: Call,
    rpc: MethodDefinition<Request, Response>,
    request: Request,
  ): Promise<Response> {
    call.signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const running = this.#client.makeUnaryRequest(...argumentsOf(call, rpc, request), (error, response) => {
      if (response === undefined) reject(error);
      else resolve(response);
    });
    using _leaving = addAbortListener(call.signal, () => running.cancel());
    try {
      return await promise;
    } catch (error) {
      if (!isServiceError(error)) throw error;
      throw call.signal.aborted && error.code === status.CANCELLED
        ? call.signal.reason
        : await this.#whyRefused(error, rpc.path, call);
    }
  }

  /** One stream, which ends when the caller leaves. */
  async *read<Request, Response>(
    call: Call,
    rpc: MethodDefinition<Request, Response>,
    request: Request,
  ): AsyncGenerator<Response> {
    const stream = this.#client.makeServerStreamRequest(...argumentsOf(call, rpc, request));
    using _leaving = addAbortListener(call.signal, () => stream.cancel());
    try {
      for await (const message of stream) yield message as Response;
    } catch (error) {
      if (call.signal.aborted && isServiceError(error) && error.code === status.CANCELLED) return;
      throw isServiceError(error) ? await this.#whyRefused(error, rpc.path, call) : error;
    } finally {
      stream.cancel();
    }
  }

  /** Throws VERSIONS_DIFFER for an agent of a version before this. */
  async needs(feature: string, since: string, call: Call): Promise<void> {
    const agentVersion = await this.#version(call);
    if (isBefore(agentVersion, since)) throw agentTooOld({ host: this.#host, agentVersion }, feature);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  async #whyRefused(error: ServiceError, path: string, call: Call): Promise<BlockJobError> {
    if (!isUnknownCall(error) || path === ServerServiceService.getServerInfo.path) return errorOf(error, this.#host);
    return agentTooOld({ host: this.#host, agentVersion: await this.#version(call) }, rpcOf(path));
  }

  /** '' if the agent is too old to say it. */
  async #version(call: Call): Promise<string> {
    try {
      return (await this.ask(call, ServerServiceService.getServerInfo, {})).server?.version ?? '';
    } catch (error) {
      if (error instanceof BlockJobError && error.reason === 'NOT_IMPLEMENTED') return '';
      throw error;
    }
  }
}

/** The arguments of a call to grpc-js. */
function argumentsOf<Request, Response>(
  call: Call,
  { path, requestSerialize, responseDeserialize }: MethodDefinition<Request, Response>,
  request: Request,
) {
  return [path, requestSerialize, responseDeserialize, request, metadataOf(call), deadlineOf(call)] as const;
}

function metadataOf({ caller, rights, epoch }: Call): Metadata {
  const metadata = new Metadata();
  metadata.set(VERSION_HEADER, VERSION);
  if (caller !== undefined) metadata.set(CALLER_HEADER, encodeURIComponent(caller.toWellFormed()));
  // Their present values.
  for (const now of rights ?? []) metadata.add(RIGHTS_HEADER, Buffer.from(JSON.stringify(now())));
  if (epoch !== undefined) metadata.set(EPOCH_HEADER, String(epoch));
  return metadata;
}

function deadlineOf({ deadlineMs }: Call): { deadline?: Date } {
  return deadlineMs === undefined ? {} : { deadline: dateAt(deadlineMs) };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'metadata' in error && 'code' in error;
}
