/** BlockJobs of a remote service: each method is one call of the contract. */
import { addAbortListener } from 'node:events';
import {
  type ChannelCredentials,
  type ClientOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  InterceptingCall,
  type Interceptor,
  Metadata,
  type ServiceError,
  type StatusObject,
  status,
} from '@grpc/grpc-js';
import {
  BlockJobServiceClient,
  type WatchJobResponse,
  type WatchJobsResponse,
} from '../../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceClient } from '../../../generated/blockjob/v1/domain_service.ts';
import type { BlockJobs, Call, Requests } from '../../core/block-jobs.ts';
import { fail } from '../../core/errors.ts';
import type { JobEvent } from '../../core/job/job-event.ts';
import type { JobsMessage } from '../../core/jobs-message.ts';
import { dateAt } from '../../lib/clock.ts';
import { NOBODY, type Observer } from '../../lib/observer.ts';
import { CALLER_HEADER, EPOCH_HEADER, RIGHTS_HEADER } from '../identity.ts';
import { toForeignJob, toJobEvent, toJobView, toLeftover, toReclaimResult, toStarted } from './answers.ts';
import { toDomain, toDomainDisk } from './domains.ts';
import { errorOf, failureOf } from './failure.ts';
import { fromWatchJobsRequest, toJobsMessage } from './jobs-messages.ts';
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

export class Remote implements BlockJobs, Disposable {
  readonly #host: string;
  readonly #jobs: BlockJobServiceClient;
  readonly #domains: DomainServiceClient;

  constructor({ host, address, credentials, observer = NOBODY }: RemoteOptions) {
    this.#host = host;
    const options = { ...OPTIONS, interceptors: [observing(observer, host)] };
    this.#jobs = new BlockJobServiceClient(address, credentials, options);
    this.#domains = new DomainServiceClient(address, credentials, {
      ...options,
      channelOverride: this.#jobs.getChannel(),
    });
  }

  readonly startCopy: BlockJobs['startCopy'] = async (request, call) =>
    toStarted(await this.#ask(call, this.#jobs.startCopy.bind(this.#jobs), fromCopyRequest(request)));

  readonly rebase: BlockJobs['rebase'] = async (request, call) =>
    toStarted(await this.#ask(call, this.#jobs.rebase.bind(this.#jobs), fromRebaseRequest(request)));

  readonly commit: BlockJobs['commit'] = async (request, call) =>
    toStarted(await this.#ask(call, this.#jobs.commit.bind(this.#jobs), fromCommitRequest(request)));

  readonly getInfo: BlockJobs['getInfo'] = async (ref, call) =>
    toJobView((await this.#ask(call, this.#jobs.getInfo.bind(this.#jobs), { job: fromJobRef(ref) })).job);

  readonly listJobs: BlockJobs['listJobs'] = async (request, call) => {
    const message = fromListJobsRequest(request);
    const { jobs, foreignJobs, ...page } = await this.#ask(call, this.#jobs.listJobs.bind(this.#jobs), message);
    return { ...page, items: jobs.map(toJobView), foreignJobs: foreignJobs.map(toForeignJob) };
  };

  readonly abort: BlockJobs['abort'] = async (request, call) =>
    toJobView((await this.#ask(call, this.#jobs.abort.bind(this.#jobs), fromAbortRequest(request))).job);

  readonly setSpeed: BlockJobs['setSpeed'] = async (request, call) =>
    toJobView((await this.#ask(call, this.#jobs.setSpeed.bind(this.#jobs), fromChangeRequest(request))).job);

  readonly pause: BlockJobs['pause'] = async (request, call) =>
    toJobView((await this.#ask(call, this.#jobs.pause.bind(this.#jobs), fromChangeRequest(request))).job);

  readonly resume: BlockJobs['resume'] = async (request, call) =>
    toJobView((await this.#ask(call, this.#jobs.resume.bind(this.#jobs), fromChangeRequest(request))).job);

  async *watch(request: Requests['watch'], call: Call): AsyncIterable<JobEvent> {
    const stream = this.#jobs.watchJob(fromWatchRequest(request), metadataOf(call), deadlineOf(call));
    for await (const { event } of this.#read<WatchJobResponse>(stream, call)) yield toJobEvent(event);
  }

  async *watchJobs(request: Requests['watchJobs'], call: Call): AsyncIterable<JobsMessage> {
    const stream = this.#jobs.watchJobs(fromWatchJobsRequest(request), metadataOf(call), deadlineOf(call));
    for await (const told of this.#read<WatchJobsResponse>(stream, call)) {
      const message = toJobsMessage(told, this.#host, request);
      if (message !== undefined) yield message;
    }
  }

  async *#read<Response>(stream: ClientReadableStream<Response>, call: Call): AsyncGenerator<Response> {
    using _leaving = addAbortListener(call.signal, () => stream.cancel());
    try {
      for await (const message of stream) yield message as Response;
    } catch (error) {
      if (call.signal.aborted && isServiceError(error) && error.code === status.CANCELLED) return;
      throw isServiceError(error) ? errorOf(error, this.#host) : error;
    } finally {
      stream.cancel();
    }
  }

  readonly checkOperation: BlockJobs['checkOperation'] = async (request, call) => {
    const message = fromCheckOperationRequest(request);
    const ask = this.#domains.checkOperation.bind(this.#domains);
    const { reasons, blockingJobs } = await this.#ask(call, ask, message);
    return { reasons: reasons.map(failureOf), blocking: blockingJobs.map(toJobView) };
  };

  readonly listLeftovers: BlockJobs['listLeftovers'] = async (request, call) => {
    const { leftovers, ...page } = await this.#ask(call, this.#jobs.listLeftovers.bind(this.#jobs), request);
    return { ...page, items: leftovers.map(toLeftover) };
  };

  readonly reclaim: BlockJobs['reclaim'] = async ({ ids, ...request }, call) => {
    const message = { ...request, leftoverIds: [...ids] };
    const { results } = await this.#ask(call, this.#jobs.reclaim.bind(this.#jobs), message);
    return results.map(toReclaimResult);
  };

  readonly listDomains: BlockJobs['listDomains'] = async (request, call) => {
    const { domains, ...page } = await this.#ask(call, this.#domains.listDomains.bind(this.#domains), request);
    return { ...page, items: domains.map(toDomain) };
  };

  readonly getDomain: BlockJobs['getDomain'] = async (name, call) => {
    const { domain } = await this.#ask(call, this.#domains.getDomain.bind(this.#domains), { domain: name });
    if (domain === undefined) fail('HOST_UNREACHABLE', { host: this.#host, why: 'it answers without a domain' });
    return { domain: toDomain(domain), disks: domain.disks.map(toDomainDisk) };
  };

  [Symbol.dispose](): void {
    // One channel for both.
    this.#jobs.close();
  }

  /** One unary call, cancelled when the caller leaves, and limited by the caller's deadline. */
  async #ask<Request, Response>(
    call: Call,
    rpc: (
      request: Request,
      metadata: Metadata,
      options: { deadline?: Date },
      callback: (error: ServiceError | null, response: Response) => void,
    ) => ClientUnaryCall,
    request: Request,
  ): Promise<Response> {
    call.signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const running = rpc(request, metadataOf(call), deadlineOf(call), (error, response) => {
      if (error === null) resolve(response);
      else
        reject(
          call.signal.aborted && error.code === status.CANCELLED ? call.signal.reason : errorOf(error, this.#host),
        );
    });
    using _leaving = addAbortListener(call.signal, () => running.cancel());
    return await promise;
  }
}

/** Every call to a remote service, for observers: its request, its metadata, and its end. */
function observing(observer: Observer, host: string): Interceptor {
  return (options, nextCall) => {
    const { path, responseStream: isStream } = options.method_definition;
    const rpc = path.slice(path.lastIndexOf('/') + 1);
    return new InterceptingCall(nextCall(options), {
      start: (metadata, _listener, next) => {
        const ended = Promise.withResolvers<void>();
        const onReceiveStatus = (how: StatusObject, tell: (how: StatusObject) => void) => {
          if (how.code === status.OK) ended.resolve();
          else ended.reject(whyEnded(how, host));
          tell(how);
        };
        const setHeader = (name: string, value: string) => metadata.set(name, value);
        const work = async () => {
          next(metadata, { onReceiveStatus });
          await ended.promise;
        };
        // The caller gets the status; this promise is for observers.
        observer.during({ does: 'ask', rpc, host, isStream, setHeader }, work).catch(() => undefined);
      },
    });
  };
}

function whyEnded(how: StatusObject, host: string): Error {
  // Neither means that the host is silent: the caller had no more time.
  if (how.code === status.CANCELLED || how.code === status.DEADLINE_EXCEEDED)
    return new DOMException(how.details, 'AbortError');
  return errorOf(Object.assign(new Error(how.details), { ...how, metadata: how.metadata ?? new Metadata() }), host);
}

function metadataOf({ caller, rights, epoch }: Call): Metadata {
  const metadata = new Metadata();
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
