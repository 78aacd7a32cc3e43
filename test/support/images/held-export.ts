/** An NBD export in memory, on a unix socket. The test holds single requests, and so decides when QEMU goes on. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';

/** NBD_FLAG_HAS_FLAGS, NBD_FLAG_SEND_FLUSH. */
const FLAGS = 1 | 4;
const OPTION = { INFO: 6, GO: 7 } as const;
const REPLY = { ACK: 1, INFO: 3, UNSUPPORTED: 0x80_00_00_01 } as const;
const COMMAND = { READ: 0, WRITE: 1, DISCONNECT: 2, FLUSH: 3 } as const;
const OPTION_REPLY = 0x3_e8_89_04_55_65_a9n;
const SIMPLE_REPLY = 0x67_44_66_98;

/** A request that waits for its answer. */
export interface HeldRequest {
  readonly grant: () => void;
}

export class HeldExport implements AsyncDisposable {
  readonly path: string;
  readonly #bytes: Buffer;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #held: { readonly type: number; readonly resolve: (request: HeldRequest) => void } | undefined;

  private constructor(path: string, bytes: Buffer, server: Server) {
    this.path = path;
    this.#bytes = bytes;
    this.#server = server;
  }

  /** `contents`: its first bytes; zeroes follow. */
  static async at(path: string, sizeBytes: number, contents?: Buffer): Promise<HeldExport> {
    const server = createServer();
    const bytes = Buffer.alloc(sizeBytes);
    contents?.copy(bytes);
    const served = new HeldExport(path, bytes, server);
    server.on('connection', (socket) => {
      served.#sockets.add(socket);
      // QEMU closes its connections as it likes.
      served.#serve(socket).catch(() => socket.destroy());
    });
    server.listen(path);
    await once(server, 'listening');
    return served;
  }

  /** The node of QEMU that uses it. */
  get node() {
    return { driver: 'nbd', server: { type: 'unix', path: this.path } } as const;
  }

  /** The first request of this kind from now on. It waits for its answer; all others are answered at once. */
  next(kind: 'FLUSH' | 'WRITE'): Promise<HeldRequest> {
    return new Promise((resolve) => {
      this.#held = { type: COMMAND[kind], resolve };
    });
  }

  async #serve(socket: Socket): Promise<void> {
    const incoming = new Incoming(socket);
    socket.write('NBDMAGICIHAVEOPT\0\x03', 'latin1');
    await incoming.take(4);
    while (!(await this.#negotiate(socket, incoming)));
    while (await this.#transmit(socket, incoming));
    socket.end();
  }

  /** Whether the client begins with its requests. */
  async #negotiate(socket: Socket, incoming: Incoming): Promise<boolean> {
    const head = await incoming.take(16);
    const option = head.readUInt32BE(8);
    await incoming.take(head.readUInt32BE(12));
    const reply = (type: number, data: Buffer = Buffer.alloc(0)) => {
      const bytes = Buffer.alloc(20);
      bytes.writeBigUInt64BE(OPTION_REPLY);
      for (const [at, value] of [option, type, data.length].entries()) bytes.writeUInt32BE(value, 8 + 4 * at);
      socket.write(Buffer.concat([bytes, data]));
    };
    if (option !== OPTION.INFO && option !== OPTION.GO) {
      reply(REPLY.UNSUPPORTED);
      return false;
    }
    const info = Buffer.alloc(12);
    info.writeBigUInt64BE(BigInt(this.#bytes.length), 2);
    info.writeUInt16BE(FLAGS, 10);
    reply(REPLY.INFO, info);
    reply(REPLY.ACK);
    return option === OPTION.GO;
  }

  /** Whether more requests may follow. */
  async #transmit(socket: Socket, incoming: Incoming): Promise<boolean> {
    const head = await incoming.take(28);
    const type = head.readUInt16BE(6);
    const [from, length] = [Number(head.readBigUInt64BE(16)), head.readUInt32BE(24)];
    if (type === COMMAND.DISCONNECT) return false;
    const written = type === COMMAND.WRITE ? await incoming.take(length) : undefined;
    const grant = () => {
      written?.copy(this.#bytes, from);
      const reply = Buffer.alloc(16);
      reply.writeUInt32BE(SIMPLE_REPLY);
      head.copy(reply, 8, 8, 16);
      const data = type === COMMAND.READ ? this.#bytes.subarray(from, from + length) : Buffer.alloc(0);
      socket.write(Buffer.concat([reply, data]));
    };
    if (this.#held?.type !== type) grant();
    else {
      const { resolve } = this.#held;
      this.#held = undefined;
      resolve({ grant });
    }
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/** The bytes of a connection, as many at a time as are asked for. */
class Incoming {
  readonly #socket: Socket;
  #unread: Buffer = Buffer.alloc(0);
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (more) => {
      this.#unread = Buffer.concat([this.#unread, more]);
      this.#wake();
    });
    socket.on('close', () => this.#wake());
    socket.on('error', () => undefined); // 'close' comes after it
  }

  /** Rejects if the other side closes first. */
  async take(bytes: number): Promise<Buffer> {
    while (this.#unread.length < bytes) {
      if (this.#socket.destroyed) throw new Error('the connection is closed');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#unread.subarray(0, bytes);
    this.#unread = this.#unread.subarray(bytes);
    return taken;
  }
}
