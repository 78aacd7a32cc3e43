/** Addresses of servers: a unix socket, or a port. */

export interface Port {
  readonly host: string;
  readonly port: number;
}

export type Address = { readonly unixSocket: string } | Port;

/** sockaddr_un.sun_path has 108 bytes, with the final NUL. */
const LONGEST_SOCKET_BYTES = 107;

/** Understands unix:/PATH and HOST:PORT; otherwise returns the sentence that says what is wrong. */
export function parseAddress(text: string): Address | string {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (!path.startsWith('/')) return 'Give an absolute path: unix:/run/blockjobd.sock.';
    if (Buffer.byteLength(path) > LONGEST_SOCKET_BYTES) return 'A socket path has at most 107 bytes.';
    return { unixSocket: path };
  }
  const parts = /^(?:\[(?<six>[^\]]+)\]|(?<four>[^:]+)):(?<port>\d{1,5})$/.exec(text)?.groups;
  const host = parts?.['six'] ?? parts?.['four'];
  const port = Number(parts?.['port']);
  if (host === undefined || port > 65_535) return 'Give HOST:PORT, for example 127.0.0.1:50051, or unix:/PATH.';
  return { host, port };
}

/** The form of HOST before :PORT. */
export function inUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** Plaintext is for this machine only. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}
