/** Listening addresses: a unix socket for its owner alone, or a port. */
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { type Server, ServerCredentials } from '@grpc/grpc-js';
import { type Address, inUrl } from '../lib/address.ts';
import type { Certificates } from './certificates.ts';

/** Returns the address for clients, with the chosen port if 0 was requested. */
export async function bind(server: Server, listen: Address, certificates: Certificates | undefined): Promise<string> {
  const plain = ServerCredentials.createInsecure();
  if ('unixSocket' in listen) {
    await removeStaleSocket(listen.unixSocket);
    // The socket belongs to its owner alone from the moment of its creation.
    const before = process.umask(0o177);
    try {
      await bindTo(server, `unix:${listen.unixSocket}`, plain);
    } finally {
      process.umask(before);
    }
    return `unix:${listen.unixSocket}`;
  }
  const host = inUrl(listen.host);
  // The mode of a unix socket decides who can reach it; for a port only certificates do.
  const port = await bindTo(server, `${host}:${listen.port}`, certificates?.forServer() ?? plain);
  return `${host}:${port}`;
}

/** After a kill the socket's file still exists, without a listener: then, and only then, it is removed. */
async function removeStaleSocket(path: string): Promise<void> {
  const there = await lstat(path).catch(() => undefined);
  if (there?.isSocket() !== true) return;
  const listening = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    // Only a refused connection proves that nobody listens; a busy server may answer EAGAIN.
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
  if (!listening) await unlink(path);
}

async function bindTo(server: Server, address: string, credentials: ServerCredentials): Promise<number> {
  return await new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}
