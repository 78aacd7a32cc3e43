/**
 * The far end of a QMP socket, played by the test: a real unix socket server that does exactly what the test says, line
 * by line. It knows no commands. If the product forgets to close a connection, the server's dispose does not return, so
 * a leak is a failing test.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import type { Monitor, MonitorState } from '../../../src/qmp/monitor.ts';

export const greeting = {
  QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 }, package: 'scripted' }, capabilities: ['oob'] },
};

/** The output of the product. */
export interface Request {
  readonly execute?: string;
  readonly 'exec-oob'?: string;
  readonly arguments?: Record<string, unknown>;
  readonly id: unknown;
}

/** First in, first out; a reader of an empty one waits. */
class Mailbox<T> {
  readonly #items: T[] = [];
  readonly #takers: ((item: T) => void)[] = [];

  put(item: T): void {
    const taker = this.#takers.shift();
    if (taker === undefined) this.#items.push(item);
    else taker(item);
  }

  take(): Promise<T> {
    const item = this.#items.shift();
    return item === undefined ? new Promise((resolve) => this.#takers.push(resolve)) : Promise.resolve(item);
  }
}

/** One client of the server. */
export class Connection {
  /** Settles when the connection is gone, whichever side ended it. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #requests = new Mailbox<Request>();

  constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => socket.on('close', () => resolve()));
    socket.on('error', () => undefined); // 'close' comes after it
    let rest = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const request: Request = JSON.parse(line);
        this.#requests.put(request);
      }
    });
  }

  /** The next line that the product wrote. */
  receive(): Promise<Request> {
    return this.#requests.take();
  }

  /** Greets and agrees; the connection is then ready for commands. Returns the product's negotiation. */
  async negotiate(): Promise<Request> {
    this.send(greeting);
    const request = await this.receive();
    this.reply(request);
    return request;
  }

  reply(request: Request, value: unknown = {}): void {
    this.send({ return: value, id: request.id });
  }

  refuse(request: Request, desc: string, qemuClass = 'GenericError'): void {
    this.send({ id: request.id, error: { class: qemuClass, desc } });
  }

  event(event: string, data: Record<string, unknown> = {}): void {
    this.send({ timestamp: { seconds: 1, microseconds: 2 }, event, data });
  }

  /** All in one write, each as QEMU ends its lines. */
  send(...messages: unknown[]): void {
    this.write(messages.map((message) => `${JSON.stringify(message)}\r\n`).join(''));
  }

  write(bytes: string | Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Ends the stream in good order, after all data has been written. */
  end(bytes = ''): void {
    this.#socket.end(bytes);
  }

  /**
   * Closes at once. The product sees the end of the stream, or ECONNRESET if it has written data in the same turn of
   * the event loop, which is still unread.
   */
  destroy(): void {
    this.#socket.destroy();
  }
}

export class ScriptedQmp implements AsyncDisposable {
  readonly path: string;
  readonly #server: Server;
  readonly #connections: Connection[] = [];
  readonly #arrivals = new Mailbox<Connection>();

  private constructor(path: string) {
    this.path = path;
    this.#server = createServer((socket) => {
      const connection = new Connection(socket);
      this.#connections.push(connection);
      this.#arrivals.put(connection);
    });
  }

  static async listen(path: string): Promise<ScriptedQmp> {
    const scripted = new ScriptedQmp(path);
    await new Promise<void>((resolve, reject) => {
      scripted.#server.on('error', reject).listen(path, resolve);
    });
    return scripted;
  }

  /** The number of connections so far. */
  get connectionCount(): number {
    return this.#connections.length;
  }

  /** The next client. */
  accept(): Promise<Connection> {
    return this.#arrivals.take();
  }

  /** Accepts and negotiates. */
  async connected(): Promise<Connection> {
    const connection = await this.accept();
    await connection.negotiate();
    return connection;
  }

  /** Stops listening, which removes the socket's file; existing connections stay. */
  stopListening(): void {
    this.#server.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopListening();
    await Promise.all(this.#connections.map((connection) => connection.closed));
  }
}

/**
 * A monitor that another client holds: it listens and never accepts, and two fit into its backlog. A thread of its own
 * blocks with the listening socket, because a Node server that lives accepts every connection.
 */
export class HeldQmp implements AsyncDisposable {
  readonly path: string;
  readonly #worker: Worker;

  private constructor(path: string, worker: Worker) {
    this.path = path;
    this.#worker = worker;
  }

  static async hold(path: string): Promise<HeldQmp> {
    const script = `
      const { parentPort, workerData } = require('node:worker_threads');
      require('node:net').createServer().listen({ path: workerData, backlog: 1 }, () => {
        parentPort.postMessage('held');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      });`;
    const worker = new Worker(script, { eval: true, workerData: path });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    return new HeldQmp(path, worker);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

type StateOf<Name> = Extract<MonitorState, { is: Name }>;

/** The monitor's next state of this name; the present one does not count. */
export function nextState<Name extends MonitorState['is']>(monitor: Monitor, name: Name): Promise<StateOf<Name>> {
  const isIt = (state: MonitorState): state is StateOf<Name> => state.is === name;
  return new Promise((resolve) => {
    const subscription = monitor.onState((state) => {
      if (!isIt(state)) return;
      subscription[Symbol.dispose]();
      resolve(state);
    });
  });
}
