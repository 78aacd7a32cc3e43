/** The connection to a remote service: with certificates, or in plaintext on this machine alone. */
import { credentials } from '@grpc/grpc-js';
import { fail } from '../../core/errors.ts';
import { isLoopback, parseAddress } from '../../lib/address.ts';
import type { Observer } from '../../lib/observer.ts';
import type { Certificates } from '../certificates.ts';
import { Remote } from './remote.ts';

export interface RemotePlace {
  readonly name: string;
  readonly address: string;
  /** The name in its certificate; '' for the host of the address. */
  readonly identity: string;
}

/** Connects at the first call. Throws HOST_UNREACHABLE for an address that needs certificates. */
export function connect(
  { name, address, identity }: RemotePlace,
  certificates: Certificates | undefined,
  observer?: Observer,
): Remote {
  const parsed = parseAddress(address);
  const isLocal = typeof parsed === 'object' && ('unixSocket' in parsed || isLoopback(parsed.host));
  if (certificates === undefined && !isLocal) {
    fail('HOST_UNREACHABLE', { host: name, why: `${address} is not loopback, and this gateway has no certificates` });
  }
  const isPlain = certificates === undefined || address.startsWith('unix:');
  return new Remote({
    host: name,
    address,
    credentials: isPlain ? credentials.createInsecure() : certificates.forClient(identity),
    observer,
  });
}
