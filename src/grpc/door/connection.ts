/** One connection, and its calls. */
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { type DoorLimits, HELD_BYTES } from './limits.ts';
import type { Shares } from './shares.ts';

/** As gRPC calls them. */
export type Kind = 'unary' | 'serverStream' | 'clientStream' | 'bidi';

interface Call {
  readonly kind: Kind;
  readonly bornAt: number;
  /** All of its request is there; where that is itself a stream it has no end but the call's. */
  isThere: boolean;
  /** Since when an answer waits for its caller. */
  unsentSince: number | undefined;
}

export class Connection {
  readonly peer: string;
  /** Watches and their like: a connection that they fill would have no room to ask anything. */
  readonly mostLasting: number;
  readonly #session: ServerHttp2Session;
  readonly #calls = new Map<ServerHttp2Stream, Call>();
  /** Those of them whose requests are not there yet. */
  readonly #arriving = new Set<ServerHttp2Stream>();
  readonly #arrivals: Shares;
  #lasting = 0;

  constructor(session: ServerHttp2Session, peer: string, { streams, arrivals }: { streams: number; arrivals: Shares }) {
    this.#session = session;
    this.peer = peer;
    this.mostLasting = Math.max(1, Math.floor(streams * 0.8));
    this.#arrivals = arrivals;
  }

  /** Calls that go on for as long as their caller likes. */
  get lasting(): number {
    return this.#lasting;
  }

  /** What waits here: to be sent, and to be read. */
  get held(): { readonly unsent: number; readonly unread: number } {
    let [unsent, unread] = [0, 0];
    for (const { writableLength, readableLength } of this.#calls.keys()) {
      unsent += writableLength;
      unread += readableLength;
    }
    return { unsent, unread };
  }

  get mayHaveMore(): boolean {
    return this.held.unsent < HELD_BYTES.ofOne;
  }

  /** False: too many are on their way. */
  add(stream: ServerHttp2Stream, kind: Kind): boolean {
    // Their ends are seen here before gRPC reads them.
    for (const one of this.#arriving) if (one.state.remoteClose === 1) this.#hasArrived(one);
    if (this.held.unread >= HELD_BYTES.ofOne || !this.#arrivals.take(this.peer)) return false;
    const isThere = kind === 'bidi' || kind === 'clientStream';
    const isLasting = kind !== 'unary';
    this.#arriving.add(stream);
    this.#calls.set(stream, { kind, bornAt: performance.now(), isThere, unsentSince: undefined });
    if (isThere) this.#hasArrived(stream);
    if (isLasting) this.#lasting += 1;
    stream.once('end', () => this.#hasArrived(stream));
    stream.once('close', () => {
      this.#hasArrived(stream);
      this.#calls.delete(stream);
      if (isLasting) this.#lasting -= 1;
    });
    return true;
  }

  #hasArrived(stream: ServerHttp2Stream): void {
    if (this.#arriving.delete(stream)) this.#arrivals.giveBack(this.peer);
    const call = this.#calls.get(stream);
    if (call !== undefined) call.isThere = true;
  }

  /** Ends calls that wait for their caller for too long. */
  endStale({ requestMs, answerMs }: DoorLimits): void {
    const now = performance.now();
    for (const [stream, call] of this.#calls) {
      call.unsentSince = stream.writableLength === 0 ? undefined : (call.unsentSince ?? now);
      const isLate = !call.isThere && now - call.bornAt > requestMs;
      // Whoever watches may be slow: what waits for it is bounded.
      const isUntaken = call.kind === 'unary' && now - (call.unsentSince ?? now) > answerMs;
      if (isLate || isUntaken) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    }
  }

  end(): void {
    this.#session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}
