/**
 * The messages of a stream on their way out. They are written to HTTP/2 itself: gRPC's own way makes a copy of each
 * message for each of its readers.
 */
import type { ServerHttp2Stream } from 'node:http2';
import { Metadata, type ServerWritableStream } from '@grpc/grpc-js';

/** Internals of grpc-js: the stream of a call. */
interface Inside {
  readonly call: { readonly stream: ServerHttp2Stream };
}

const PREFIX_BYTES = 5;
/** A reader for whom more than this waits gets nothing else. */
const WAITING_BYTES = 4096;

let last: { readonly message: Uint8Array; readonly framed: Buffer } | undefined;

/** As gRPC frames it: uncompressed, and its length. Messages that go to many come one after the other. */
function framed(message: Uint8Array): Buffer {
  if (last?.message === message) return last.framed;
  const bytes = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  bytes.writeUInt8(0, 0);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, PREFIX_BYTES);
  last = { message, framed: bytes };
  return bytes;
}

export class MessagesOut {
  readonly #stream: ServerHttp2Stream;
  readonly #signal: AbortSignal;
  #waiting: (() => void) | undefined;
  readonly #written = () => {
    if (this.#stream.writableLength <= WAITING_BYTES) this.#goOn();
  };

  /** Back-pressure ends with the signal, too. */
  constructor(call: ServerWritableStream<unknown, unknown>, signal: AbortSignal) {
    call.sendMetadata(new Metadata());
    this.#stream = (call as unknown as Inside).call.stream;
    this.#signal = signal;
  }

  /** Returns a promise if the reader is slow: it resolves when more may be written. */
  write(message: Uint8Array): Promise<void> | undefined {
    const stream = this.#stream;
    // Its caller has left, or its deadline has passed.
    if (!stream.writable) return undefined;
    stream.write(framed(message), this.#written);
    return stream.writableLength <= WAITING_BYTES || this.#signal.aborted ? undefined : this.#wait();
  }

  async #wait(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting = resolve;
    const goOn = () => this.#goOn();
    this.#signal.addEventListener('abort', goOn, { once: true });
    await promise;
    this.#signal.removeEventListener('abort', goOn);
  }

  #goOn(): void {
    this.#waiting?.();
    this.#waiting = undefined;
  }
}
