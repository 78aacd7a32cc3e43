/** A connection between a client and a server that a test can cut, or turn into a hole that swallows everything. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

export class TcpProxy implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;
  /** The number of bytes to the server per second. */
  readonly #bytesPerSecond: number;
  #mode: 'pass' | 'cut' | 'hole' | 'late' | 'deaf' = 'pass';
  /** The answers of servers while answers are late. */
  readonly #late: (() => void)[] = [];

  private constructor(port: number, server: Server, sockets: Set<Socket>, bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.port = port;
    this.#server = server;
    this.#sockets = sockets;
  }

  static async to(target: number, { bytesPerSecond = Infinity } = {}): Promise<TcpProxy> {
    const sockets = new Set<Socket>();
    const server = createServer((client) => proxy.#join(client, target));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const proxy = new TcpProxy(address.port, server, sockets, bytesPerSecond);
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  pass(): void {
    this.#mode = 'pass';
    for (const deliver of this.#late.splice(0)) deliver();
  }

  /** Requests come through, and their answers only with `pass`. */
  late(): void {
    this.#mode = 'late';
  }

  /** As late(), and requests do not come through either. */
  deaf(): void {
    this.#mode = 'deaf';
  }

  /** Resets all connections, also new ones. */
  cut(): void {
    this.#mode = 'cut';
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Nothing comes through any more, without any error. Connections of that time stay dead. */
  hole(): void {
    this.#mode = 'hole';
    for (const socket of this.#sockets) socket.pause().removeAllListeners('data');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  #join(client: Socket, target: number): void {
    this.#keep(client);
    if (this.#mode === 'cut') client.resetAndDestroy();
    if (this.#mode !== 'pass' && this.#mode !== 'late') return;
    const server = connect(target, '127.0.0.1');
    this.#keep(server);
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.setNoDelay(true);
      one.on('close', () => other.destroy());
    }
    server.on('data', (bytes: Buffer) => {
      if (this.#mode === 'pass') client.write(bytes);
      else this.#late.push(() => client.write(bytes));
    });
    const pass = (bytes: Buffer) => void (this.#mode !== 'deaf' && server.write(bytes));
    if (this.#bytesPerSecond === Infinity) client.on('data', pass);
    else this.#slowly(client, server);
  }

  #slowly(client: Socket, server: Socket): void {
    let freeAtMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    client.on('close', () => clearTimeout(timer));
    client.on('data', (bytes: Buffer) => {
      client.pause();
      freeAtMs = Math.max(freeAtMs, performance.now()) + (bytes.length / this.#bytesPerSecond) * 1000;
      const pass = () => {
        server.write(bytes);
        if (this.#mode === 'pass') client.resume();
      };
      timer = setTimeout(pass, Math.max(1, freeAtMs - performance.now()));
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }
}
