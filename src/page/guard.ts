/**
 * The check that a request to the page's server comes from the page itself. A browser acts for its user on this
 * machine, and every page that it shows can send requests to its ports; the browser's headers tell these pages apart.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { isLoopback } from '../lib/address.ts';

/** The reason why a request is not answered; undefined if it is. */
export function whyRefused(headers: IncomingHttpHeaders): string | undefined {
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
