/**
 * Who may ask the page's server: the page itself. A browser lends its user's place on this machine to every page that
 * it shows, and each of them can send requests to its ports; what the browser says of them tells them apart.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { isLoopback } from '../lib/address.ts';

/** Why a request is not answered; undefined: it is. */
export function whyRefused(headers: IncomingHttpHeaders): string | undefined {
  // A page whose own name was made to lead here (DNS rebinding) comes with that name. The port may be another one: that
  // of a tunnel.
  const host = headers.host ?? '';
  // What answers a call makes a URL of it, and throws where that is none.
  if (!isLoopback(hostNameIn(host)) || !URL.canParse(`http://${host}`)) {
    return 'this page is asked for by a name of this machine alone: http://127.0.0.1:PORT/ or http://localhost:PORT/';
  }
  if (headers.origin !== undefined && headers.origin !== `http://${host}`) return 'this page answers itself alone';
  const site = headers['sec-fetch-site'] ?? 'none';
  const isFollowedLink = headers['sec-fetch-mode'] === 'navigate';
  if (site !== 'same-origin' && site !== 'none' && !isFollowedLink) return 'this page answers itself alone';
  return undefined;
}

/** Of HOST, HOST:PORT or [HOST]:PORT. */
function hostNameIn(host: string): string {
  return (/^\[([^\]]*)\](?::\d+)?$/.exec(host) ?? /^([^:]*)(?::\d+)?$/.exec(host))?.[1] ?? '';
}
