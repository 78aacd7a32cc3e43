/** Where a server listens: a unix socket of its owner's alone, or a port. */
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { type Server, ServerCredentials } from '@grpc/grpc-js';
import { type Address, inUrl } from '../lib/address.ts';
import type { Certificates } from './certificates.ts';

/** Gives the address that clients connect to, with the port that was chosen where 0 was asked for. */
export async function bind(server: Server, listen: Address, certificates: Certificates | undefined): Promise<string> {
  const plain = ServerCredentials.createInsecure();
  if ('unixSocket' in listen) {
    await removeStaleSocket(listen.unixSocket);
    // The socket is for its owner alone from the moment that it exists.
    const before = process.umask(0o177);
    try {
      await bindTo(server, `unix:${listen.unixSocket}`, plain);
    } finally {
      process.umask(before);
    }
    return `unix:${listen.unixSocket}`;
  }
  const host = inUrl(listen.host);
  // Who can reach a unix socket its mode says; who can reach a port, only a certificate.
  const port = await bindTo(server, `${host}:${listen.port}`, certificates?.forServer() ?? plain);
  return `${host}:${port}`;
}

/** After a kill the socket's file is still there, and nobody listens: then, and only then, it is removed. */
async function removeStaleSocket(path: string): Promise<void> {
  const there = await lstat(path).catch(() => undefined);
  if (there?.isSocket() !== true) return;
  const listening = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    // Only a refused connection says that nobody listens; a server that is busy may answer EAGAIN.
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
