/** The addresses of the service, each with its channel; one of them is current. */
import { addAbortListener } from 'node:events';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { type ChannelCredentials, type ClientOptions, connectivityState, credentials } from '@grpc/grpc-js';
import { BlockJobServiceClient } from '../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceClient } from '../../generated/blockjob/v1/domain_service.ts';
import { ServerServiceClient } from '../../generated/blockjob/v1/server_service.ts';
import { dateAt } from './durations.ts';
import { BlockJobError, type Code } from './errors.ts';
import type { ConnectOptions, Pem, TlsOptions } from './options.ts';

/** A host that drops packets must not delay the next address. */
const CONNECT_WITHIN_MS = 5000;

const OPTIONS: ClientOptions = {
  // A dead connection is found in twice this time.
  'grpc.keepalive_time_ms': 5000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2000,
  'grpc.max_receive_message_length': 16 * 1024 * 1024,
  // The service is at the address, not behind the proxy of this machine.
  'grpc.enable_http_proxy': 0,
  // The caller decides about repeating a call, because it knows the request.
  'grpc.enable_retries': 0,
};

export class Endpoint implements Disposable {
  readonly address: string;
  readonly jobs: BlockJobServiceClient;
  readonly domains: DomainServiceClient;
  readonly server: ServerServiceClient;

  constructor(address: string, channel: ChannelCredentials, options: ClientOptions) {
    this.address = address;
    this.jobs = new BlockJobServiceClient(address, channel, options);
    const shared = { ...options, channelOverride: this.jobs.getChannel() };
    this.domains = new DomainServiceClient(address, channel, shared);
    this.server = new ServerServiceClient(address, channel, shared);
  }

  /** Resolves when there is a connection, or when it has failed: a call then reports the reason. */
  async tried(signal: AbortSignal | undefined, deadlineMs: number): Promise<void> {
    const channel = this.jobs.getChannel();
    const patientUntil = performance.now() + CONNECT_WITHIN_MS;
    const until = Math.min(patientUntil, deadlineMs);
    for (;;) {
      signal?.throwIfAborted();
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY || state === connectivityState.TRANSIENT_FAILURE) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      using _leaving = signal && addAbortListener(signal, () => reject(signal.reason));
      channel.watchConnectivityState(state, dateAt(until), (late) => {
        if (late === undefined) resolve();
        else if (until < patientUntil) reject(this.#lost('DEADLINE_EXCEEDED', 'no connection in time'));
        else reject(this.#lost('UNAVAILABLE', `no connection in ${CONNECT_WITHIN_MS} ms`));
      });
      await promise;
    }
  }

  #lost(code: Code, why: string): BlockJobError {
    return BlockJobError.onTheWay(code, `${this.address}: ${why}`);
  }

  [Symbol.dispose](): void {
    // One channel for all.
    this.jobs.close();
  }
}

export class Endpoints implements Disposable {
  readonly #all: readonly [Endpoint, ...Endpoint[]];
  #current = 0;

  /** Throws if there is no address, or a file of `tls` cannot be read. Connects at the first call. */
  constructor({ address, tls }: ConnectOptions) {
    const [first, ...others] = typeof address === 'string' ? [address] : address;
    if (first === undefined) throw new TypeError('no address of the service');
    const secure = tls && secureCredentials(tls);
    const name = tls?.serverName;
    const options = name === undefined ? {} : { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name };
    const endpoint = (one: string) =>
      secure === undefined || one.startsWith('unix:')
        ? new Endpoint(one, credentials.createInsecure(), OPTIONS)
        : new Endpoint(one, secure, { ...OPTIONS, ...options });
    this.#all = [endpoint(first), ...others.map(endpoint)];
  }

  get count(): number {
    return this.#all.length;
  }

  get current(): Endpoint {
    return this.#all[this.#current] ?? this.#all[0];
  }

  /** Moves on to the next one, unless another call has done so already. */
  leave(endpoint: Endpoint): void {
    if (endpoint === this.current) this.#current = (this.#current + 1) % this.#all.length;
  }

  [Symbol.dispose](): void {
    for (const endpoint of this.#all) endpoint[Symbol.dispose]();
  }
}

function secureCredentials({ ca, cert, key }: TlsOptions): ChannelCredentials {
  const context = { ca: bytesOf(ca), cert: bytesOf(cert), key: bytesOf(key) };
  return credentials.createFromSecureContext(createSecureContext({ ...context, minVersion: 'TLSv1.3' }));
}

function bytesOf(pem: Pem | undefined): Buffer | undefined {
  return typeof pem === 'string' ? readFileSync(pem) : pem;
}
