/**
 * HTTP/2 as bytes, for clients that misbehave in ways that no library allows: RFC 9113, and of HPACK only plain
 * literals.
 */
import { connect, type Socket } from 'node:net';

export const TYPE = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  window: 8,
  continuation: 9,
} as const;
export const FLAG = { ack: 1, endStream: 1, endHeaders: 4 } as const;
export const SETTING = { maxStreams: 3, initialWindow: 4 } as const;

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const FRAME_HEADER_BYTES = 9;
/** The data that waits in this process while the other end does not read. */
const MOST_UNSENT_BYTES = 1 << 20;

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(FRAME_HEADER_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function settings(values: Readonly<Record<number, number>> = {}): Buffer {
  const payload = Object.entries(values).map(([id, value]) => {
    const one = Buffer.alloc(6);
    one.writeUInt16BE(Number(id), 0);
    one.writeUInt32BE(value, 2);
    return one;
  });
  return frame(TYPE.settings, 0, 0, Buffer.concat(payload));
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** One header, as a literal that is not indexed. */
export function header(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([integer(bytes.length), bytes]);
}

/** With a prefix of seven bits. */
function integer(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** The headers of a gRPC call, as a block. */
export function callHeaders(path: string, more: readonly (readonly [string, string])[] = []): Buffer {
  const plain = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'localhost'],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
  ] as const;
  return Buffer.concat([...plain, ...more].map(([name, value]) => header(name, value)));
}

/** A message as gRPC frames it. */
export function message(bytes: Uint8Array, isCompressed = false): Buffer {
  return Buffer.concat([Buffer.from([isCompressed ? 1 : 0]), uint32(bytes.length), bytes]);
}

/** A connection that sends the given frames, reads all answers, and sends nothing by itself but SETTINGS. */
export class Frames implements Disposable {
  readonly #socket: Socket;
  #nextStream = 1;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** `from`: the source address, as of another host. Resolves when the connection is open. */
  static async open(
    port: number,
    { from = '127.0.0.1', with: values = {} }: { readonly from?: string; readonly with?: Record<number, number> } = {},
  ): Promise<Frames> {
    const socket = connect({ port, host: '127.0.0.1', localAddress: from });
    // The server closes it during a flood: the test looks for that.
    socket.on('error', () => undefined);
    await new Promise<void>((resolve) => {
      socket.once('connect', resolve).once('close', () => resolve());
    });
    socket.resume();
    socket.write(Buffer.concat([PREFACE, settings(values), frame(TYPE.settings, FLAG.ack, 0)]));
    return new Frames(socket);
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed && this.#socket.readyState === 'open';
  }

  /** An unused stream number of this client. */
  next(): number {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    return stream;
  }

  /** Resolves when more may be sent; at the end of the connection, too. */
  async send(...frames: readonly Buffer[]): Promise<void> {
    if (!this.isOpen) return;
    this.#socket.write(Buffer.concat(frames));
    if (this.#socket.writableLength <= MOST_UNSENT_BYTES) return;
    await new Promise<void>((resolve) => {
      const goOn = () => {
        this.#socket.off('drain', goOn).off('close', goOn);
        resolve();
      };
      this.#socket.on('drain', goOn).on('close', goOn);
    });
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
