/** GET /metrics, on a port of its own, in plain HTTP: the metrics contain no names. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { inUrl } from '../lib/address.ts';
import type { Meters } from './meters.ts';

export interface ListenerOptions {
  readonly meters: Meters;
  readonly host: string;
  readonly port: number;
  readonly log: Logger;
}

/** An answer takes a second; a client that has not sent its request by then is not served. */
const SCRAPE_MS = 10_000;

/** Prometheus has one. */
const CONNECTIONS = 100;

/** Rejects with what to do if the port cannot be listened on. */
export async function listen({ meters, host, port, log }: ListenerOptions): Promise<AsyncDisposable> {
  const server = createServer({ requestTimeout: SCRAPE_MS, headersTimeout: SCRAPE_MS }, (request, response) => {
    answer(meters, request, response).catch((error: unknown) => {
      log.error({ err: error }, 'The metrics cannot be read');
      response.writeHead(500).end();
    });
  });
  server.maxConnections = CONNECTIONS;
  server.listen({ host, port });
  try {
    await once(server, 'listening');
  } catch (error) {
    const isTaken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    const why = isTaken ? 'the port is in use' : String(error);
    const text = `metrics cannot be served on ${host}:${port}: ${why}; give --metrics another HOST:PORT, or --metrics off`;
    throw new Error(text, { cause: error });
  }
  // It is an object for a port.
  const { address, port: chosen } = server.address() as AddressInfo;
  const url = `http://${inUrl(address)}:${chosen}/metrics`;
  log.info({ url }, 'Serving metrics');
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(meters: Meters, { method, url }: IncomingMessage, response: ServerResponse): Promise<void> {
  if (url?.split('?', 1)[0] !== '/metrics') return void response.writeHead(404).end('see /metrics\n');
  if (method !== 'GET') return void response.writeHead(405, { allow: 'GET' }).end();
  const text = await meters.text();
  response.writeHead(200, { 'content-type': meters.registry.contentType }).end(text);
}
