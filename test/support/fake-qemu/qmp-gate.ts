/**
 * A way to a QEMU's monitor that can be shut at one command: before QEMU gets it, or when QEMU has carried it out and
 * nobody has heard so. A test can thus produce any event at exactly that moment.
 *
 * In /proc it is a process of its own, and it ends with its QEMU: a child holds the listening socket and hands each
 * connection over to the test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createConnection, Socket } from 'node:net';

const LISTENER = `
  const server = require('node:net').createServer({ pauseOnConnect: true }, (socket) => {
    process.send('connection', socket);
  });
  server.listen(process.argv[1], () => process.send('listening'));
  process.on('disconnect', () => process.exit());`;

export type When = 'before' | 'after';

/** The nth of these commands, counted from 1. */
export interface Shut {
  readonly command: string;
  readonly nth: number;
  readonly when: When;
}

interface Message {
  readonly execute?: string;
  readonly id?: unknown;
}

export class QmpGate implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #qemu: string;
  readonly #sockets = new Set<Socket>();
  readonly #shut = Promise.withResolvers<void>();
  readonly #at: Shut | undefined;
  #seen = 0;
  #open = true;

  private constructor(child: ChildProcess, qemu: string, at: Shut | undefined) {
    this.#child = child;
    this.#qemu = qemu;
    this.#at = at;
    child.on('message', (_message, socket) => {
      if (socket instanceof Socket) this.#arrived(socket);
    });
  }

  /** `path`: the socket of the gate; `qemu`: QEMU's own socket. */
  static async start(path: string, qemu: string, at?: Shut): Promise<QmpGate> {
    const child = spawn(process.execPath, ['-e', LISTENER, path], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    await once(child, 'message');
    return new QmpGate(child, qemu, at);
  }

  /** Resolves when it is shut. */
  get shut(): Promise<void> {
    return this.#shut.promise;
  }

  #arrived(client: Socket): void {
    const server = createConnection(this.#qemu);
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined); // 'close' comes after it
      socket.on('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    let awaited: unknown;
    onLines(client, (line) => {
      const { execute, id } = JSON.parse(line) as Message;
      if (this.#open && execute !== undefined && this.#isTheOne(execute)) {
        awaited = id;
        if (this.#at?.when === 'before') this.#close();
      }
      if (this.#open) server.write(`${line}\n`);
    });
    onLines(server, (line) => {
      if (awaited !== undefined && (JSON.parse(line) as Message).id === awaited) this.#close();
      if (this.#open) client.write(`${line}\n`);
    });
    client.resume();
  }

  #isTheOne(command: string): boolean {
    if (command !== this.#at?.command) return false;
    this.#seen += 1;
    return this.#seen === this.#at.nth;
  }

  #close(): void {
    this.#open = false;
    this.#shut.resolve();
  }

  /** No message comes from QEMU any more, which still runs. */
  hangUp(): void {
    this.#close();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** As when QEMU dies. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await exited;
    }
    for (const socket of this.#sockets) socket.destroy();
  }
}

function onLines(socket: Socket, take: (line: string) => void): void {
  let rest = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) take(line);
  });
}
