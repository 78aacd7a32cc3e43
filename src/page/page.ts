/** The web page: its files, and the contract's reading methods for it, on a port of this machine alone. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import type { BlockJobs } from '../core/block-jobs.ts';
import { BlockJobError, failure } from '../core/errors.ts';
import type { ServerInfo } from '../core/server-info.ts';
import { connectHandler } from '../grpc/connect.ts';
import { inUrl, isLoopback, type Port } from '../lib/address.ts';

export interface RunningPage {
  /** The address for browsers, with the chosen port if 0 was requested. */
  readonly url: string;
  /** Ends in order: streams end with DRAINING, and the page comes back by itself. */
  drain(): Promise<void>;
}

export interface PageOptions {
  readonly at: Port;
  readonly info: ServerInfo;
  readonly log: Logger;
}

const FOLDER = new URL('../../generated/page/', import.meta.url);
const FILES = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/page.js', 'page.js', 'text/javascript; charset=utf-8'],
  ['/page.css', 'page.css', 'text/css; charset=utf-8'],
  ['/icon.svg', 'icon.svg', 'image/svg+xml'],
] as const;

/** The page consists of its own files and asks its own server; code in a hostile name does not run. */
const HEADERS = {
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-cache',
};

/** A browser has six. */
const CONNECTIONS = 100;

/** How long answers in progress may take at the end. */
const GRACE_MS = 1000;

/** Rejects with what to do if the port cannot be listened on. */
export async function servePage(jobs: BlockJobs, { at, info, log }: PageOptions): Promise<RunningPage> {
  const ends = new AbortController();
  const ask = connectHandler(jobs, { info, log, ends: ends.signal });
  const files = new Map(
    FILES.map(([path, name, type]) => [path as string, { body: readFileSync(new URL(name, FOLDER)), type }]),
  );

  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    const refusal = whyRefused(request.headers);
    if (refusal !== undefined) {
      log.debug({ host: request.headers.host, origin: request.headers.origin, why: refusal }, 'Page request refused');
      response.writeHead(403, { 'Content-Type': 'text/plain; charset=utf-8' }).end(`${refusal}\n`);
      return;
    }
    const file = files.get(request.url?.replace(/\?.*/, '') ?? '');
    if (file === undefined) {
      ask(request, response);
    } else if (request.method === 'GET' || request.method === 'HEAD') {
      response.writeHead(200, { 'Content-Type': file.type, 'Content-Length': file.body.length });
      response.end(request.method === 'HEAD' ? undefined : file.body);
    } else {
      response.writeHead(405, { Allow: 'GET, HEAD' }).end();
    }
  });
  server.maxConnections = CONNECTIONS;
  try {
    await once(server.listen(at.port, at.host), 'listening');
  } catch (error) {
    throw new Error(
      `the page cannot be served on ${inUrl(at.host)}:${at.port}: ${whyNot(error)}; ` +
        'choose another port with --page HOST:PORT, or go without it: --page off',
      { cause: error },
    );
  }
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : at.port;
  const url = `http://${inUrl(at.host)}:${port}/`;
  log.info({ url }, 'Serving the page');
  return {
    url,
    drain: async () => {
      const closed = once(server, 'close');
      server.close();
      ends.abort(new BlockJobError(failure('DRAINING', {})));
      const timer = setTimeout(() => server.closeAllConnections(), GRACE_MS);
      await closed;
      clearTimeout(timer);
    },
  };
}

/**
 * The reason why a request is not answered; undefined if it comes from the page itself. A browser acts for its user on
 * this machine, and every page that it shows can send requests to its ports; the browser's headers tell these apart.
 */
function whyRefused(headers: IncomingHttpHeaders): string | undefined {
  // A foreign page whose own name leads here (DNS rebinding) comes with that name. The port may differ: that of a
  // tunnel.
  const host = headers.host ?? '';
  // The answering code makes a URL of it, and throws if it is not one.
  if (!isLoopback(hostNameIn(host)) || !URL.canParse(`http://${host}`)) {
    return 'use a name of this machine for this page: http://127.0.0.1:PORT/ or http://localhost:PORT/';
  }
  if (headers.origin !== undefined && headers.origin !== `http://${host}`) return 'this page answers only itself';
  const site = headers['sec-fetch-site'] ?? 'none';
  const isFollowedLink = headers['sec-fetch-mode'] === 'navigate';
  if (site !== 'same-origin' && site !== 'none' && !isFollowedLink) return 'this page answers only itself';
  return undefined;
}

/** The host of HOST, HOST:PORT or [HOST]:PORT. */
function hostNameIn(host: string): string {
  return (/^\[([^\]]*)\](?::\d+)?$/.exec(host) ?? /^([^:]*)(?::\d+)?$/.exec(host))?.[1] ?? '';
}

function whyNot(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'code' in error && error.code === 'EADDRINUSE' ? 'the port is in use' : error.message;
}
