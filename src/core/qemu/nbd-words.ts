/** What QEMU says when it does not get an export of an NBD server, in its words from 5.2 to 11.1, and what is to be done. */
import { type Failure, failure } from '../errors.ts';

const CREDENTIALS = /no tls credentials with id|is not tls credentials|tls credentials (?:for|with) a client endpoint/i;

/** QEMU is not at one with a server that is there. */
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/export not available|export '.*' not present|unknown export/i, 'name an export that it has'],
  [/denied by server for option 5|server does not support STARTTLS/i, 'it has no TLS: leave the TLS credentials out'],
  [/tls negotiation required/i, 'it wants TLS: name credentials of QEMU (tls_credentials_id)'],
  [
    /certificate does not match the hostname/i,
    'name the host of its certificate (tls_hostname), or give it a certificate with that name',
  ],
  [/certificate/i, "its certificate and the authority of QEMU's credentials do not fit: mend one of them"],
  [/tls channel|tls handshake/i, 'it broke off the TLS: its log says why; it may not accept the certificate of QEMU'],
  [/tls only supported over ip/i, 'this QEMU takes TLS over TCP alone: name a port, or leave the credentials out'],
  [/'tls-hostname' is unexpected/i, 'this QEMU takes no tls_hostname: leave it out'],
  [/read-only|permission denied/i, 'it is served to be read only: serve it to be written, too'],
];

const UNREACHABLE =
  /failed to connect|bad (?:initial|server) magic|unable to (?:read|write)|address resolution failed|failed to read|unexpected end|connection (?:refused|reset|timed out)|no route|unreachable|timed? ?out/i;

/** Undefined for what is none of these. `path`: the export, as a URI. */
export function nbdFailure(qemuText: string, { path, domain }: { path: string; domain: string }): Failure | undefined {
  if (CREDENTIALS.test(qemuText)) return failure('TLS_CREDENTIALS_UNUSABLE', { domain, path, why: qemuText });
  const wayOut = REFUSED.find(([words]) => words.test(qemuText))?.[1];
  if (wayOut !== undefined) return failure('NBD_REFUSED', { path, why: qemuText, wayOut });
  return UNREACHABLE.test(qemuText) ? failure('DESTINATION_UNREACHABLE', { path, why: qemuText }) : undefined;
}

export function isNbd(path: string): boolean {
  return /^nbd(?:s|\+unix)?:\/\//.test(path);
}
