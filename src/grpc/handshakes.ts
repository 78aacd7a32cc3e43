/** Connections that are refused before a call: their address, and the reason in words that help. */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Server } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { Refusals } from './refusals.ts';

/** OpenSSL's errors about a certificate, or other data in its place, by Node's codes. */
const WHY: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  CERT_REVOKED: 'its certificate is revoked',
  INVALID_PURPOSE: 'its certificate is not for clients (extendedKeyUsage lacks clientAuth)',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is from another authority',
  UNABLE_TO_GET_ISSUER_CERT: 'its certificate is from another authority',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is from another authority',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is from another authority',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is from another authority: it is self-signed',
  CERT_SIGNATURE_FAILURE: 'its certificate is not signed by the authority that it names',
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'it did not send a certificate',
  ERR_SSL_HTTP_REQUEST: 'it speaks plain HTTP, and this port accepts only TLS',
  ERR_SSL_WRONG_VERSION_NUMBER: 'its data is not TLS; it may speak gRPC in plaintext',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'it does not speak TLS 1.3',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'it does not speak HTTP/2',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'its handshake took too long',
  ECONNRESET: 'it ended the handshake: it may not trust the certificate of this server',
};

type Refusing = Pick<Socket, 'remoteAddress' | 'remotePort'> & {
  /** Node sets it to a code, and says nothing else about a certificate that it rejects. */
  readonly authorizationError?: Error | string | null;
  /** The connection below TLS, which knows its peer also when it is closed. */
  readonly _parent?: Pick<Socket, 'remoteAddress' | 'remotePort'>;
};

/** gRPC does not report failed handshakes; its servers do. */
export function tellOfRefused(server: Server, log: Logger, refusals: Refusals): void {
  const { http2Servers } = server as unknown as { readonly http2Servers: ReadonlyMap<EventEmitter, unknown> };
  for (const one of http2Servers.keys()) {
    // An address that was read once is known after the end, too.
    one.on('connection', (socket: Socket) => void socket.remoteAddress);
    one.on('tlsClientError', (error: Error, socket: Refusing) => {
      const { remoteAddress, remotePort } = socket._parent ?? socket;
      const { code, why } = reasonOf(error, socket);
      refusals.note({ who: remoteAddress ?? '', reason: code }, () => {
        log.info({ address: `${remoteAddress}:${remotePort}`, why, code }, 'audit: connection refused');
      });
    });
  }
}

function reasonOf(error: Error, { authorizationError }: Refusing): { readonly code: string; readonly why: string } {
  const unwanted = authorizationError instanceof Error ? authorizationError.message : authorizationError;
  const code = unwanted ?? ('code' in error ? String(error.code) : error.name);
  const own = 'reason' in error ? String(error.reason) : error.message;
  return {
    code,
    why: WHY[code] ?? (unwanted === null || unwanted === undefined ? own : 'its certificate is not accepted'),
  };
}
