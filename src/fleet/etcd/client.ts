/**
 * The part of etcd's API that a directory needs. Reads are repeated, also at another member, until their time is over.
 * A change is sent once: without an answer it may have happened, and only its sender can know how to find out.
 */
import type { Client, Metadata, MethodDefinition } from '@grpc/grpc-js';
import { KVService, LeaseService } from '../../../generated/etcd/etcd.ts';
import { pause, retryInMs } from './back-off.ts';
import { Conversation, callUnary, type Hooks, reasonOf } from './call.ts';
import { type Endpoint, Endpoints, type EtcdTlsFiles, parseEndpoint } from './endpoints.ts';
import { EtcdError, isServiceError, isStaleToken, OutcomeUnknown, Refused, Unreachable } from './errors.ts';
import { type Ends, type Entry, endsOfParts, entryOf, type KeyRange } from './keys.ts';
import { Login, type NameAndPassword } from './login.ts';
import { answerOf, isChange, type Txn, type TxnAnswer } from './transactions.ts';

export interface EtcdOptions {
  /** For example https://etcd1:2379; at least one. */
  readonly endpoints: readonly string[];
  readonly tls?: EtcdTlsFiles | undefined;
  readonly login?: NameAndPassword | undefined;
}

export interface CallOptions {
  /** Default: 5,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** A conversation, and the way to report its failure. */
export interface Opened<Request> {
  send(request: Request): void;
  /** Nothing more is received. May be repeated. */
  end(): void;
  /** It has failed: the next one uses another member, and a new token. */
  failed(): void;
}

/** etcd itself gives a change up after about this time. */
const TIMEOUT_MS = 5_000;
/** A silent member is left after half of the remaining time, but not before this. */
const SHORTEST_ATTEMPT_MS = 1_000;
/** The size of one answer of etcd is limited. */
const PAGE = 8_000n;

export class Etcd implements Disposable {
  readonly #endpoints: Endpoints;
  readonly #login: Login;
  readonly #closing = new AbortController();

  /** Does nothing yet. Throws RangeError for an invalid endpoint. */
  constructor({ endpoints, tls, login }: EtcdOptions) {
    const members = endpoints.map((text): Endpoint => {
      const parsed = parseEndpoint(text);
      if (typeof parsed === 'string') throw new RangeError(`etcd endpoint ${text}: ${parsed}`);
      return parsed;
    });
    if (members.length === 0) throw new RangeError('Give one etcd endpoint at least.');
    this.#endpoints = new Endpoints(members, tls);
    this.#login = new Login(login);
  }

  /** Takes all of a range at one revision, in pages, at least one. Returns the revision. */
  async readAll(
    range: KeyRange,
    take: (entries: readonly Entry[]) => void,
    options: CallOptions = {},
  ): Promise<bigint> {
    const what = { what: 'a read', changes: false, ...options };
    const ask = async (ends: Ends, revision: bigint) =>
      await this.#call(KVService.range, { ...ends, limit: PAGE, revision }, what);
    const parts = endsOfParts(range);
    let revision = 0n;
    for (let ends = parts.shift(), asked = ends && ask(ends, 0n); ends !== undefined && asked !== undefined; ) {
      const { header, kvs, more } = await asked;
      if (revision === 0n) revision = header?.revision ?? 0n;
      const last = kvs.at(-1);
      // The next possible key.
      const rest =
        more && last !== undefined ? { ...ends, key: Buffer.concat([last.key, Buffer.alloc(1)]) } : undefined;
      ends = rest ?? parts.shift();
      // etcd reads it while this page is taken.
      asked = ends && ask(ends, revision);
      take(kvs.map(entryOf));
    }
    return revision;
  }

  /** Rejects with OutcomeUnknown only if it would change anything. */
  async txn(txn: Txn, options: CallOptions = {}): Promise<TxnAnswer> {
    const request = { compare: [...txn.when], success: [...txn.ifSo], failure: [...(txn.ifNot ?? [])] };
    const what = { what: 'a transaction', changes: isChange(txn), ...options };
    return answerOf(await this.#call(KVService.txn, request, what));
  }

  /** If the answer is lost the lease ends by itself, with no keys: ask for another. */
  async grantLease(ttlSeconds: number, options: CallOptions = {}): Promise<{ id: bigint; ttlSeconds: number }> {
    const request = { TTL: BigInt(ttlSeconds), ID: 0n };
    const answer = await this.#call(LeaseService.leaseGrant, request, { what: 'a lease', changes: true, ...options });
    return { id: answer.ID, ttlSeconds: Number(answer.TTL) };
  }

  /** Ends a lease and deletes its keys; succeeds if there is none. */
  async revokeLease(id: bigint, options: CallOptions = {}): Promise<void> {
    try {
      const what = { what: 'the end of a lease', changes: false, ...options };
      await this.#call(LeaseService.leaseRevoke, { ID: id }, what);
    } catch (error) {
      if (!(error instanceof Refused && error.why === 'lease-gone')) throw error;
    }
  }

  /** Begins a conversation. */
  async open<Request, Response>(
    what: string,
    method: MethodDefinition<Request, Response>,
    hooks: Hooks<Response>,
    options: CallOptions = {},
  ): Promise<Opened<Request>> {
    const { client, metadata } = await this.#connected(what, options);
    // Without this a member that has lost the others would continue as if nothing had happened.
    metadata.set('hasleader', 'true');
    const conversation = new Conversation(client, method, metadata, hooks);
    return {
      send: (request) => conversation.send(request),
      end: () => conversation.end(),
      failed: () => {
        conversation.end();
        this.#endpoints.leave(client);
        this.#login.forget(metadata);
      },
    };
  }

  /** Ends all calls; conversations are ended by their owners. */
  [Symbol.dispose](): void {
    this.#closing.abort();
    this.#endpoints.close();
  }

  /** A member, and our login at it. */
  async #connected(what: string, options: CallOptions): Promise<{ client: Client; metadata: Metadata }> {
    const by = performance.now() + (options.timeoutMs ?? TIMEOUT_MS);
    const signal = this.#until(options);
    const client = await this.#endpoints.connected(what, by, signal);
    try {
      return { client, metadata: await this.#login.metadata(client, by, signal) };
    } catch (error) {
      throw this.#explain(what, false, client, error);
    }
  }

  async #call<Request, Response>(
    method: MethodDefinition<Request, Response>,
    request: Request,
    { what, changes, ...options }: CallOptions & { readonly what: string; readonly changes: boolean },
  ): Promise<Response> {
    const by = performance.now() + (options.timeoutMs ?? TIMEOUT_MS);
    const signal = this.#until(options);
    for (let failures = 0; ; failures += 1) {
      try {
        const { client, metadata } = await this.#connected(what, { ...options, timeoutMs: by - performance.now() });
        return await callUnary(client, method, request, metadata, changes ? by : attemptEnd(by), signal).catch(
          (error) => {
            // It was refused only because of the token, so nothing has happened: once more, with a new one.
            if (isServiceError(error) && isStaleToken(error) && this.#login.forget(metadata)) {
              throw new Unreachable(what, error.details, { cause: error });
            }
            throw this.#explain(what, changes, client, error);
          },
        );
      } catch (why) {
        const waitMs = retryInMs(failures);
        if (!(why instanceof Unreachable) || signal.aborted || performance.now() + waitMs >= by) throw why;
        await pause(waitMs, signal);
      }
    }
  }

  /** gRPC's error as ours; a member that did not answer is left. */
  #explain(what: string, changes: boolean, client: Client, error: unknown): unknown {
    if (error instanceof EtcdError || !isServiceError(error)) return error;
    const why = reasonOf(what, error);
    if (why instanceof Refused) return why;
    this.#endpoints.leave(client);
    return changes ? new OutcomeUnknown(what, error.details, { cause: error }) : why;
  }

  #until({ signal }: CallOptions): AbortSignal {
    return signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
  }
}

function attemptEnd(by: number): number {
  const now = performance.now();
  return Math.min(by, now + Math.max(SHORTEST_ATTEMPT_MS, (by - now) / 2));
}
