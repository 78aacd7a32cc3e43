/** The members of the etcd cluster; one of them is used at a time, and the next one when it fails. */
import { addAbortListener } from 'node:events';
import {
  type ChannelCredentials,
  Client,
  connectivityState,
  credentials,
  experimental,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { KVService } from '../../../generated/etcd/etcd.ts';
import { isLoopback } from '../../lib/address.ts';
import { dateAt } from '../../lib/clock.ts';
import '../../lib/tls-1-3.ts';
import { pause, retryInMs } from './back-off.ts';
import { Unreachable } from './errors.ts';

export interface Endpoint {
  /** For gRPC. */
  readonly target: string;
  readonly secure: boolean;
}

/** PEM files. They are read again when they change: a new connection uses the new ones. */
export interface EtcdTlsFiles {
  /** The authorities for etcd's certificate. */
  readonly caFile: string;
  /** Our client certificate, if etcd asks for one. Both or neither. */
  readonly identity?: { readonly certificateFile: string; readonly privateKeyFile: string } | undefined;
  /** How often they are checked. Default: 10,000. */
  readonly rereadMs?: number;
}

/** How long a member may take to answer a connection before the next one is tried. */
const CONNECT_MS = 2_000;

const CHANNEL = {
  // A half-open connection is found in 9 seconds. Below 5 seconds etcd answers with GOAWAY: too many pings.
  'grpc.keepalive_time_ms': 6_000,
  'grpc.keepalive_timeout_ms': 3_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
  // Closing a channel also closes its connection, and no proxy of the environment is used.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
};

export class Endpoints {
  readonly #members: readonly Endpoint[];
  readonly #credentials: { plain: ChannelCredentials; secure: ChannelCredentials };
  #at: number;
  #open: Client | undefined;
  #closed = false;

  constructor(members: readonly Endpoint[], tls: EtcdTlsFiles | undefined) {
    this.#members = members;
    this.#credentials = credentialsFor(tls);
    // Not all clients of a fleet at the same member.
    this.#at = Math.floor(Math.random() * members.length);
  }

  /** A connected member. Rejects with Unreachable if there is none by then: `by` is on the clock of performance.now(). */
  async connected(what: string, by: number, signal: AbortSignal): Promise<Client> {
    for (let failures = 0; ; failures += 1) {
      if (this.#closed || signal.aborted) throw new Unreachable(what, 'it was closed on this side');
      this.#open ??= this.#connect();
      const client = this.#open;
      if (await isReady(client, Math.min(by, performance.now() + CONNECT_MS), signal)) return client;
      const last = performance.now() >= by;
      // Each member is tried once before there is any waiting.
      const waitMs = failures + 1 < this.#members.length ? 0 : retryInMs(failures);
      if (last || performance.now() + waitMs >= by) {
        const why = await whyNot(client);
        this.leave(client);
        throw new Unreachable(what, why);
      }
      this.leave(client);
      await pause(waitMs, signal);
    }
  }

  /** That member has failed: other calls use the next one. Calls in progress continue as long as they can. */
  leave(client: Client): void {
    client.close();
    if (this.#open !== client) return;
    this.#open = undefined;
    this.#at = (this.#at + 1) % this.#members.length;
  }

  close(): void {
    this.#closed = true;
    this.#open?.close();
    this.#open = undefined;
  }

  #connect(): Client {
    const member = this.#members[this.#at];
    if (member === undefined) throw new RangeError('There is no etcd endpoint');
    return new Client(member.target, member.secure ? this.#credentials.secure : this.#credentials.plain, CHANNEL);
  }
}

/** Understands https://HOST:PORT, and http://HOST:PORT on loopback; otherwise returns a sentence about the error. */
export function parseEndpoint(text: string): Endpoint | string {
  const parts = /^(?<scheme>https?):\/\/(?<host>\[[0-9a-fA-F:]+\]|[^:/[\]]+):(?<port>\d{1,5})\/?$/.exec(text)?.groups;
  const { scheme, host, port } = parts ?? {};
  if (host === undefined || Number(port) > 65_535) return 'Give https://HOST:PORT, for example https://etcd1:2379.';
  // Everybody could read tokens and passwords.
  if (scheme === 'http' && !isLoopback(host.replaceAll(/[[\]]/g, ''))) {
    return `${host} is not loopback; etcd on another machine needs TLS: https://${host}:${port}.`;
  }
  return { target: `dns:${host}:${port}`, secure: scheme === 'https' };
}

function credentialsFor(tls: EtcdTlsFiles | undefined): {
  plain: ChannelCredentials;
  secure: ChannelCredentials;
} {
  const plain = credentials.createInsecure();
  if (tls === undefined) return { plain, secure: credentials.createSsl() };
  const files = new experimental.FileWatcherCertificateProvider({
    caCertificateFile: tls.caFile,
    ...tls.identity,
    refreshIntervalMs: tls.rereadMs ?? 10_000,
  });
  const identity = tls.identity === undefined ? null : files;
  return { plain, secure: experimental.createCertificateProviderChannelCredentials(files, identity) };
}

/** Connects, and says whether that worked by then. */
async function isReady(client: Client, by: number, signal: AbortSignal): Promise<boolean> {
  for (;;) {
    const state = stateOf(client);
    if (state === connectivityState.READY) return true;
    if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) return false;
    const { promise: changed, resolve } = Promise.withResolvers<boolean>();
    using _leaving = addAbortListener(signal, () => resolve(false));
    client.getChannel().watchConnectivityState(state, dateAt(by), (error) => resolve(error === undefined));
    if (!(await changed)) return false;
  }
}

function stateOf(client: Client): connectivityState {
  try {
    return client.getChannel().getConnectivityState(true);
  } catch {
    // Another call has left it meanwhile.
    return connectivityState.SHUTDOWN;
  }
}

/** The reason of the failure: gRPC reports it only to a call. This one reads nothing, should it succeed after all. */
async function whyNot(client: Client): Promise<string> {
  const { path, requestSerialize, responseDeserialize } = KVService.range;
  const nothing = { key: Buffer.alloc(1), rangeEnd: Buffer.alloc(0), limit: 1n, revision: 0n };
  return await new Promise((resolve) => {
    const done = (error: ServiceError | null) => resolve(error?.details ?? 'no connection in time');
    const options = { deadline: dateAt(performance.now() + 100) };
    try {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, nothing, new Metadata(), options, done);
    } catch (error) {
      resolve(String(error));
    }
  });
}
