/** Who a caller is: as its certificate says, or as a gateway that is trusted with it has passed it on. */
import type { Metadata } from '@grpc/grpc-js';

/** Whose call this is, where a gateway passes it on; percent-encoded. */
export const CALLER_HEADER = 'blockjob-caller';
/** At which epoch the gateway has heard that the domain is the host's. */
export const EPOCH_HEADER = 'blockjob-epoch';

export interface Peer {
  /** On whose behalf; undefined: there are no certificates here, or it has no name. */
  readonly caller: string | undefined;
  /** The gateway that says so. */
  readonly via: string | undefined;
  readonly epoch: bigint | undefined;
}

interface Asked {
  readonly metadata: Metadata;
  getAuthContext(): { readonly sslPeerCertificate?: { readonly subjectaltname?: string | undefined } | undefined };
}

/** `gateways`: who is believed about callers and epochs. */
export function peerOf(call: Asked, gateways: ReadonlySet<string>): Peer {
  const names = identitiesIn(call.getAuthContext().sslPeerCertificate?.subjectaltname);
  const gateway = names.find((name) => gateways.has(name));
  if (gateway === undefined) return { caller: names[0], via: undefined, epoch: undefined };
  const caller = textOf(call.metadata, CALLER_HEADER);
  const epoch = textOf(call.metadata, EPOCH_HEADER);
  return {
    caller: caller === undefined ? gateway : decodeURIComponent(caller),
    via: gateway,
    epoch: epoch === undefined ? undefined : BigInt(epoch),
  };
}

/** SPIFFE ids first, then DNS names, as Node writes a subjectAltName: a value with a comma is a JSON string. */
export function identitiesIn(subjectAltName: string | undefined): readonly string[] {
  const found = [...(subjectAltName ?? '').matchAll(/(?:^|, )(URI|DNS):("(?:[^"\\]|\\.)*"|[^,]*)/g)];
  const named = (kind: string) => found.flatMap(([, what, value]) => (what === kind ? [plain(value ?? '')] : []));
  return [...named('URI').filter((uri) => uri.startsWith('spiffe://')), ...named('DNS')];
}

function plain(value: string): string {
  return value.startsWith('"') ? String(JSON.parse(value)) : value;
}

/** The first value of a header. */
export function textOf(metadata: Metadata, header: string): string | undefined {
  const [value] = metadata.get(header);
  return value === undefined ? undefined : value.toString();
}
