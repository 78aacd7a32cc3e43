/** One connection, and its calls. */
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { type DoorLimits, HELD_BYTES } from './limits.ts';
import type { Shares } from './shares.ts';

/** The name in gRPC. */
export type CallKind = 'unary' | 'serverStream' | 'clientStream' | 'bidi';

interface Call {
  readonly kind: CallKind;
  readonly bornAt: number;
  /** All of its request has been read. */
  isThere: boolean;
  /** Since when an answer waits for its caller. */
  unsentSince: number | undefined;
}

interface ConnectionOptions {
  readonly streams: number;
  readonly headerBytes: number;
  readonly arrivals: Shares;
  readonly waitsForPlaces: boolean;
}

export class Connection {
  readonly peer: string;
  /** For one call. */
  readonly headerBytes: number;
  /** Watches and the like: a connection full of them would have no room for other calls. */
  readonly mostLasting: number;
  /** Whether its calls wait if there is no place for them: for a gateway, which has admitted them, and asks for many. */
  readonly waitsForPlaces: boolean;
  readonly #session: ServerHttp2Session;
  readonly #calls = new Map<ServerHttp2Stream, Call>();
  readonly #unary = new Set<ServerHttp2Stream>();
  /** Those whose requests have not been read. */
  readonly #coming = new Set<ServerHttp2Stream>();
  /** Those of them that are being read, and are not complete yet. */
  readonly #arriving = new Set<ServerHttp2Stream>();
  readonly #arrivals: Shares;
  #lasting = 0;

  constructor(session: ServerHttp2Session, peer: string, options: ConnectionOptions) {
    this.#session = session;
    this.peer = peer;
    this.headerBytes = options.headerBytes;
    this.mostLasting = Math.max(1, Math.floor(options.streams * 0.8));
    this.waitsForPlaces = options.waitsForPlaces;
    this.#arrivals = options.arrivals;
  }

  /** Calls that last as long as their caller likes. */
  get lasting(): number {
    return this.#lasting;
  }

  /** The bytes that wait here, to be sent or to be read. */
  get heldBytes(): number {
    let bytes = 0;
    for (const { writableLength, readableLength } of this.#calls.keys()) bytes += writableLength + readableLength;
    return bytes;
  }

  /** Whether answers are read. Watches do not count: a gateway has thousands, and at most one message of each waits. */
  get mayHaveMore(): boolean {
    let unsent = 0;
    for (const { writableLength } of this.#unary) unsent += writableLength;
    return unsent < HELD_BYTES.ofOne;
  }

  /** Whether it has no more unread calls than allowed. */
  get isRead(): boolean {
    let unread = 0;
    for (const { readableLength } of this.#coming) unread += readableLength;
    return unread < HELD_BYTES.ofOne;
  }

  /** `changed`: more may come in now. */
  add(stream: ServerHttp2Stream, kind: CallKind, changed: () => void): void {
    // A request that is itself a stream is never complete, and is not waited for.
    const isThere = kind === 'bidi' || kind === 'clientStream';
    const isLasting = kind !== 'unary';
    this.#calls.set(stream, { kind, bornAt: performance.now(), isThere, unsentSince: undefined });
    if (isLasting) this.#lasting += 1;
    else this.#unary.add(stream);
    if (!isThere) this.#coming.add(stream);
    const arrived = () => {
      this.#hasArrived(stream);
      changed();
    };
    stream.once('end', arrived);
    stream.once('close', () => {
      this.#calls.delete(stream);
      this.#unary.delete(stream);
      if (isLasting) this.#lasting -= 1;
      arrived();
    });
  }

  /** Whether its request is complete, or is one of the few that are read before that. */
  mayBeRead(stream: ServerHttp2Stream): boolean {
    const call = this.#calls.get(stream);
    if (call === undefined || call.isThere || hasSentAll(stream)) return true;
    if (!this.#arrivals.take(this.peer)) return false;
    this.#arriving.add(stream);
    return true;
  }

  #hasArrived(stream: ServerHttp2Stream): void {
    this.#coming.delete(stream);
    if (this.#arriving.delete(stream)) this.#arrivals.giveBack(this.peer);
    const call = this.#calls.get(stream);
    if (call !== undefined) call.isThere = true;
  }

  /** Ends calls that wait too long for their caller. */
  endStale({ requestMs, answerMs }: DoorLimits): void {
    const now = performance.now();
    for (const [stream, call] of this.#calls) {
      call.unsentSince = stream.writableLength === 0 ? undefined : (call.unsentSince ?? now);
      // A complete request waits for its turn, and its caller has nothing more to do.
      const isLate = !call.isThere && now - call.bornAt > requestMs && !hasSentAll(stream);
      // A watcher may be slow: the data that waits for it is limited.
      const isUntaken = call.kind === 'unary' && now - (call.unsentSince ?? now) > answerMs;
      if (isLate || isUntaken) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    }
  }

  end(): void {
    this.#session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

/** Whether its caller has sent the whole request, read or not. */
function hasSentAll(stream: ServerHttp2Stream): boolean {
  return stream.state.remoteClose === 1;
}
