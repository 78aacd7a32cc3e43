/** The address of an etcd member, and the connection to it. */
import { type ChannelCredentials, credentials, experimental } from '@grpc/grpc-js';
import { isLoopback } from '../../lib/address.ts';
import '../../lib/tls-1-3.ts';

export interface Endpoint {
  /** For gRPC. */
  readonly target: string;
  readonly secure: boolean;
}

/** PEM files. They are read again when they change: a new connection uses the new ones. */
export interface EtcdTlsFiles {
  /** The authorities for etcd's certificate. */
  readonly caFile: string;
  /** Our client certificate, if etcd asks for one. Both or neither. */
  readonly identity?: { readonly certificateFile: string; readonly privateKeyFile: string } | undefined;
  /** How often they are checked. Default: 10,000. */
  readonly rereadMs?: number;
}

/** Understands https://HOST:PORT, and http://HOST:PORT on loopback; otherwise returns a sentence about the error. */
export function parseEndpoint(text: string): Endpoint | string {
  const parts = /^(?<scheme>https?):\/\/(?<host>\[[0-9a-fA-F:]+\]|[^:/[\]]+):(?<port>\d{1,5})\/?$/.exec(text)?.groups;
  const { scheme, host, port } = parts ?? {};
  if (host === undefined || Number(port) > 65_535) return 'Give https://HOST:PORT, for example https://etcd1:2379.';
  // Everybody could read tokens and passwords.
  if (scheme === 'http' && !isLoopback(host.replaceAll(/[[\]]/g, ''))) {
    return `${host} is not loopback; etcd on another machine needs TLS: https://${host}:${port}.`;
  }
  return { target: `dns:${host}:${port}`, secure: scheme === 'https' };
}

export function credentialsFor(tls: EtcdTlsFiles | undefined): {
  plain: ChannelCredentials;
  secure: ChannelCredentials;
} {
  const plain = credentials.createInsecure();
  if (tls === undefined) return { plain, secure: credentials.createSsl() };
  const files = new experimental.FileWatcherCertificateProvider({
    caCertificateFile: tls.caFile,
    ...tls.identity,
    refreshIntervalMs: tls.rereadMs ?? 10_000,
  });
  const identity = tls.identity === undefined ? null : files;
  return { plain, secure: experimental.createCertificateProviderChannelCredentials(files, identity) };
}
