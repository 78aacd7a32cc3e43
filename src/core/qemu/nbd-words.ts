/** The failure for QEMU's error when it cannot open the export of an NBD server, by its words from 5.2 to 11.1. */
import { type Failure, failure } from '../errors.ts';

const CREDENTIALS = /no tls credentials with id|is not tls credentials|tls credentials (?:for|with) a client endpoint/i;

/** QEMU and the reachable server do not agree. */
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/export not available|export '.*' not present|unknown export/i, 'name an export that the server has'],
  [/denied by server for option 5|server does not support STARTTLS/i, 'it does not support TLS: omit the credentials'],
  [/tls negotiation required/i, 'the server requires TLS: name credentials in QEMU (tls_credentials_id)'],
  [
    /certificate does not match the hostname/i,
    "name the host in the server's certificate (tls_hostname), or give the server a certificate with that name",
  ],
  [/certificate/i, "the server's certificate and the CA of QEMU's credentials do not match: correct one of them"],
  [/tls channel|tls handshake/i, "it ended the handshake: it may not accept QEMU's certificate (see its log)"],
  [/tls only supported over ip/i, 'this QEMU supports TLS over TCP only: name a port, or leave the credentials out'],
  [/'tls-hostname' is unexpected/i, 'this QEMU does not support tls_hostname: leave it out'],
  [/read-only|permission denied/i, 'the server exports it read-only: export it writable'],
];

const UNREACHABLE =
  /failed to connect|bad (?:initial|server) magic|unable to (?:read|write)|address resolution failed|failed to read|unexpected end|connection (?:refused|reset|timed out)|no route|unreachable|timed? ?out/i;

/** Undefined for any other error. `path`: the URI of the export. */
export function nbdFailure(qemuText: string, { path, domain }: { path: string; domain: string }): Failure | undefined {
  if (CREDENTIALS.test(qemuText)) return failure('TLS_CREDENTIALS_UNUSABLE', { domain, path, why: qemuText });
  const wayOut = REFUSED.find(([words]) => words.test(qemuText))?.[1];
  if (wayOut !== undefined) return failure('NBD_REFUSED', { path, why: qemuText, wayOut });
  return UNREACHABLE.test(qemuText) ? failure('DESTINATION_UNREACHABLE', { path, why: qemuText }) : undefined;
}

export function isNbd(path: string): boolean {
  return /^nbd(?:s|\+unix)?:\/\//.test(path);
}
