/** A server behind a QMP socket that greets, agrees, and then sends anything. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { greeting } from '../fake-qemu/scripted-qmp.ts';

export type Says = (socket: Socket, ask: { readonly execute: string; readonly id: unknown }) => Promise<void>;

export async function hostilePeer(
  path: string,
  says: Says,
): Promise<AsyncDisposable & { readonly connections: number }> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.setMaxListeners(0).on('error', () => undefined); // 'close' comes after it
    socket.on('close', () => sockets.delete(socket));
    socket.write(`${JSON.stringify(greeting)}\n`);
    let rest = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const ask = JSON.parse(line) as { execute: string; id: unknown };
        if (ask.execute === 'qmp_capabilities') socket.write(`${JSON.stringify({ return: {}, id: ask.id })}\n`);
        else void says(socket, ask);
      }
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(path, resolve);
  });
  return {
    get connections() {
      return connections;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}

/** As fast as the other end reads. */
export async function pour(socket: Socket, part: Buffer, bytes: number): Promise<void> {
  for (let sent = 0; sent < bytes && !socket.destroyed; sent += part.length) {
    if (socket.write(part)) continue;
    await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => undefined);
  }
}
