/**
 * Between Node's HTTP/2 and gRPC: the admission of connections, the number of calls, and their turns. Excess calls cost
 * no more than a refusal: gRPC sees only calls that have come in.
 */
import type { EventEmitter } from 'node:events';
import {
  constants,
  type Http2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type SecureServerOptions,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { Server } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { BlockJobError, type Failure, failure } from '../../core/errors.ts';
import { readOnce } from '../identity.ts';
import { answerTo } from '../status.ts';
import { type CallKind, Connection } from './connection.ts';
import { correct, sizeOf, wrongIn } from './headers.ts';
import {
  ARRIVING,
  type DoorLimits,
  HANDSHAKE_MS,
  HEADER_LIST_BYTES,
  HEADERS,
  HELD_BYTES,
  lastingOf,
  UNARY,
  WINDOW_BYTES,
} from './limits.ts';
import { Shares } from './shares.ts';
import { Tally } from './tally.ts';
import { Turns } from './turns.ts';

/** Internals of grpc-js: it passes on few of Node's options, and does not report streams. */
interface Inside {
  readonly commonServerOptions: SecureServerOptions;
  readonly http2Servers: ReadonlyMap<Http2Server, unknown>;
  readonly handlers: ReadonlyMap<string, { readonly type: CallKind }>;
}

export interface DoorOptions {
  readonly limits: DoorLimits;
  /** The gateway that brings the watches of many, and the rights that it states. Undefined if it is not one. */
  readonly isGateway: ((session: ServerHttp2Session) => boolean) | undefined;
  readonly log: Logger;
}

/** How often callers that do not read their answers are looked for. */
const LOOK_MS = 250;

export class Door implements Disposable {
  readonly #inside: Inside;
  readonly #options: DoorOptions;
  readonly #connections = new Map<ServerHttp2Session, Connection>();
  readonly #sockets: Shares;
  readonly #open = new Set<Socket>();
  readonly #unary = new Shares(UNARY);
  readonly #lasting: Shares;
  readonly #arrivals = new Shares(ARRIVING);
  /** By the reason of the refusal: in a flood there is no time to build each again. */
  readonly #refusals = new Map<string, OutgoingHttpHeaders>();
  readonly #turns = new Turns<Connection>();
  readonly #tally: Tally;
  #looking: NodeJS.Timeout | undefined;

  /** Before the server listens. */
  constructor(server: Server, options: DoorOptions) {
    const { limits, isGateway, log } = options;
    this.#inside = server as unknown as Inside;
    this.#options = options;
    this.#sockets = new Shares({ inAll: limits.connections, ofOne: limits.peerConnections });
    this.#lasting = new Shares(lastingOf(limits));
    this.#tally = new Tally(log);
    Object.assign(this.#inside.commonServerOptions, {
      handshakeTimeout: HANDSHAKE_MS,
      maxHeaderListPairs: HEADERS,
      settings: {
        maxConcurrentStreams: limits.streams,
        // For all connections: a setting of one is not in force when its first call comes.
        maxHeaderListSize: isGateway === undefined ? HEADER_LIST_BYTES.plain : HEADER_LIST_BYTES.gateway,
        initialWindowSize: WINDOW_BYTES,
      },
    } satisfies SecureServerOptions);
  }

  /** When the server listens, and before it has heard of any connection. */
  guard(): void {
    this.#looking = setInterval(() => this.#look(), LOOK_MS).unref();
    for (const server of this.#inside.http2Servers.keys()) {
      standBefore(server, 'connection', (pass, [socket]) => {
        if (this.#letsIn(socket as Socket)) pass();
      });
      server.on('secureConnection', readOnce);
      server.on('session', (session) => this.#meet(session));
      standBefore(server, 'stream', (pass, [stream, headers]) => {
        this.#come(stream as ServerHttp2Stream, headers as IncomingHttpHeaders, pass);
      });
    }
  }

  #letsIn(socket: Socket): boolean {
    const peer = peerOf(socket);
    if (!this.#sockets.take(peer)) {
      this.#tally.count('connections', peer);
      socket.destroy();
      return false;
    }
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#sockets.giveBack(peer);
    });
    return true;
  }

  #meet(session: ServerHttp2Session): void {
    const { limits } = this.#options;
    const isGateway = this.#options.isGateway?.(session) === true;
    const streams = isGateway ? Math.max(limits.watches, limits.streams) : limits.streams;
    if (isGateway) session.settings({ maxConcurrentStreams: streams });
    const headerBytes = isGateway ? HEADER_LIST_BYTES.gateway : HEADER_LIST_BYTES.plain;
    const options = { streams, headerBytes, arrivals: this.#arrivals, waitsForPlaces: isGateway };
    const connection = new Connection(session, peerOf(session.socket), options);
    this.#connections.set(session, connection);
    session.once('close', () => {
      this.#connections.delete(session);
      this.#turns.forget(connection);
    });
  }

  #come(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, pass: () => void): void {
    // It has a close event as well, and that is the one to listen to.
    stream.on('error', () => undefined);
    const connection = stream.session && this.#connections.get(stream.session as ServerHttp2Session);
    if (connection === undefined) {
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    if (sizeOf(headers) > connection.headerBytes) {
      this.#tally.count('headers', connection.peer);
      stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    const wrong = wrongIn(headers);
    if (wrong !== undefined) {
      this.#refuse(stream, wrong);
      return;
    }
    const kind = this.#inside.handlers.get(String(headers[':path']))?.type ?? 'unary';
    const places = kind === 'unary' ? this.#unary : this.#lasting;
    let hasPlace = false;
    const takePlace = () => (hasPlace ||= places.take(connection.peer));
    const full = whatIsFull(connection, kind) ?? (takePlace() || connection.waitsForPlaces ? undefined : FULL);
    if (full !== undefined) {
      this.#tally.count('calls', connection.peer);
      this.#refuse(stream, failure('TOO_MANY_CALLS', { full }));
      return;
    }
    if (headers['grpc-encoding'] !== undefined) correct(stream, (fault) => this.#trailersOf(fault));
    connection.add(stream, kind, () => this.#turns.again());
    stream.once('close', () => {
      if (hasPlace) places.giveBack(connection.peer);
    });
    this.#turns.take(connection, {
      mayCome: () => stream.destroyed || (takePlace() && connection.mayBeRead(stream)),
      come: () => {
        if (!stream.destroyed) pass();
      },
    });
  }

  #refuse(stream: ServerHttp2Stream, why: Failure): void {
    stream.respond(this.#trailersOf(why), { endStream: true });
    // Node itself would close it a turn later, and until then keep the data that its caller goes on to send.
    stream.close(constants.NGHTTP2_NO_ERROR);
  }

  #trailersOf(why: Failure): OutgoingHttpHeaders {
    const known = this.#refusals.get(why.text);
    if (known !== undefined) return known;
    const { code, details, metadata } = answerTo(new BlockJobError(why), this.#options.log);
    const trailers = {
      ':status': constants.HTTP_STATUS_OK,
      'content-type': 'application/grpc+proto',
      'grpc-status': code,
      'grpc-message': encodeURI(details),
      ...metadata.toHttp2Headers(),
    };
    this.#refusals.set(why.text, trailers);
    return trailers;
  }

  /** A caller that keeps others waiting is not waited for; the largest of the waiting ones goes, if all are too many. */
  #look(): void {
    for (const connection of this.#connections.values()) connection.endStale(this.#options.limits);
    const held = [...this.#connections.values()].map((one) => [one, one.heldBytes] as const);
    if (held.reduce((sum, [, bytes]) => sum + bytes, 0) > HELD_BYTES.inAll) {
      const [[most] = []] = held.toSorted(([, a], [, b]) => b - a);
      this.#tally.count('Answers were not read, and their connections were closed', most?.peer ?? '');
      most?.end();
    }
    this.#turns.again();
  }

  /** Ends every connection at once, also those that gRPC does not know yet, for example in the middle of a handshake. */
  endAll(): void {
    for (const socket of this.#open) socket.destroy();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#looking);
    this.#tally[Symbol.dispose]();
  }
}

const FULL = 'your host, or all hosts together, have reached the limit; try again later';

/** Undefined if its connection allows it to come in. */
function whatIsFull(connection: Connection, kind: CallKind): string | undefined {
  if (kind !== 'unary' && connection.lasting >= connection.mostLasting)
    return `this connection has ${connection.mostLasting} watches; open another connection`;
  return connection.isRead ? undefined : 'this connection has more calls than are read; wait for earlier ones';
}

/** Later listeners hear of an event only when `ask` passes it on. */
function standBefore(server: EventEmitter, event: string, ask: (pass: () => void, heard: readonly unknown[]) => void) {
  const listeners = server.listeners(event);
  server.removeAllListeners(event);
  server.on(event, (...heard: unknown[]) => {
    ask(() => {
      for (const listener of listeners) listener.call(server, ...heard);
    }, heard);
  });
}

/** The peer: a host, or the users of the unix socket. */
function peerOf(socket: { readonly remoteAddress?: string | undefined }): string {
  return socket.remoteAddress ?? 'unix';
}
