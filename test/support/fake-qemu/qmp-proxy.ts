/** A monitor between a service and its QEMU, at which a test acts just before a command comes. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** False: the command is swallowed, and so are all later ones. */
export type BeforeCommand = (execute: string) => Promise<boolean>;

export class QmpProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
  }

  static async between(path: string, qemu: string, before: BeforeCommand): Promise<QmpProxy> {
    const sockets = new Set<Socket>();
    const server = createServer((client) => join(client, qemu, sockets, before));
    server.listen(path);
    await once(server, 'listening');
    return new QmpProxy(server, sockets);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}

function join(client: Socket, qemu: string, sockets: Set<Socket>, before: BeforeCommand): void {
  const server = connect(qemu);
  for (const [one, other] of [
    [client, server],
    [server, client],
  ] as const) {
    sockets.add(one);
    one.on('error', () => undefined); // 'close' comes after it
    one.on('close', () => {
      sockets.delete(one);
      other.destroy();
    });
  }
  server.pipe(client);
  let rest = '';
  let turn = Promise.resolve(true);
  client.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const { execute } = JSON.parse(line) as { execute?: string };
      turn = turn.then(async (goesOn) => {
        const passes = goesOn && (execute === undefined || (await before(execute)));
        if (passes) server.write(`${line}\n`);
        return passes;
      });
    }
  });
}
