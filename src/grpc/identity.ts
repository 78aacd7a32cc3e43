/** The identity of a caller: from its certificate, or as a trusted gateway has passed it on. */
import type { TLSSocket } from 'node:tls';
import type { Metadata } from '@grpc/grpc-js';
import { type Failure, failure } from '../core/errors.ts';
import type { Grant } from '../core/grant.ts';
import { isRecord, isTexts } from '../lib/record.ts';

/** The caller of the call that a gateway passes on; percent-encoded. */
export const CALLER_HEADER = 'blockjob-caller';
/** The epoch at which the gateway has heard that the host owns the domain. */
export const EPOCH_HEADER = 'blockjob-epoch';
/** The rights of that caller by the gateway's policy, as JSON. */
export const RIGHTS_HEADER = 'blockjob-rights-bin';

export interface Peer {
  /** The original caller; undefined if there are no certificates here, or it has no name. */
  readonly caller: string | undefined;
  /** The gateway that states it. */
  readonly via: string | undefined;
  readonly epoch: bigint | undefined;
  /** Undefined if the gateway has no policy. */
  readonly grant: Grant | undefined;
  /** An error in the headers of a gateway. */
  readonly wrong: Failure | undefined;
}

interface Asked {
  readonly metadata: Metadata;
  getAuthContext(): { readonly sslPeerCertificate?: { readonly subjectaltname?: string | undefined } | undefined };
}

/** `gateways`: their statements about callers, epochs and rights are trusted. Never throws: invalid calls are answered. */
export function peerOf(call: Asked, gateways: ReadonlySet<string>): Peer {
  const names = identitiesIn(call.getAuthContext().sslPeerCertificate?.subjectaltname);
  const gateway = names.find((name) => gateways.has(name));
  const nothing = { epoch: undefined, grant: undefined, wrong: undefined };
  if (gateway === undefined) return { caller: names[0], via: undefined, ...nothing };
  try {
    const caller = readHeader(call.metadata, CALLER_HEADER, callerIn);
    const epoch = readHeader(call.metadata, EPOCH_HEADER, epochIn);
    const grant = readHeader(call.metadata, RIGHTS_HEADER, grantIn);
    return { caller: caller ?? gateway, via: gateway, epoch, grant, wrong: undefined };
  } catch (error) {
    if (!(error instanceof WrongHeader)) throw error;
    const { header, message: why } = error;
    return {
      caller: undefined,
      via: gateway,
      ...nothing,
      wrong: failure('GATEWAY_HEADER_INVALID', { gateway, header, why }),
    };
  }
}

/** For a new connection: gRPC asks for its certificate at each call, and Node would read all of it each time. */
export function readOnce(socket: TLSSocket): void {
  const certificate = socket.getPeerCertificate();
  Object.assign(socket, { getPeerCertificate: () => certificate });
}

class WrongHeader extends Error {
  override readonly name = 'WrongHeader';
  readonly header: string;

  constructor(header: string, why: string) {
    super(why);
    this.header = header;
  }
}

/** Undefined if it was not sent. Throws WrongHeader for an invalid header, and for one that was sent twice. */
function readHeader<T>(metadata: Metadata, header: string, read: (text: string) => T | undefined): T | undefined {
  const [value, ...more] = metadata.get(header);
  if (value === undefined) return undefined;
  if (more.length > 0) throw new WrongHeader(header, `it was sent ${more.length + 1} times`);
  const found = read(value.toString());
  if (found === undefined) throw new WrongHeader(header, 'it cannot be read');
  return found;
}

function callerIn(text: string): string | undefined {
  try {
    const caller = decodeURIComponent(text);
    return caller === '' ? undefined : caller;
  } catch {
    return undefined;
  }
}

function epochIn(text: string): bigint | undefined {
  return /^\d{1,19}$/.test(text) ? BigInt(text) : undefined;
}

function grantIn(text: string): Grant | undefined {
  try {
    const grant: unknown = JSON.parse(text);
    if (!isRecord(grant)) return undefined;
    const { read, operate } = grant;
    return isTexts(read) && isTexts(operate) ? { read, operate } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * SPIFFE ids first, then DNS names, as Node writes a subjectAltName: a value with a comma is a JSON string. Each has
 * the form of its kind: a DNS name never passes for a SPIFFE id, no matter who signed it.
 */
export function identitiesIn(subjectAltName = ''): readonly string[] {
  if (subjectAltName === '') return [];
  const found = [...subjectAltName.matchAll(/(?:^|, )(URI|DNS):("(?:[^"\\]|\\.)*"|[^,]*)/g)];
  const named = (kind: string) => found.flatMap(([, what, value]) => (what === kind ? [plain(value ?? '')] : []));
  return [...named('URI').filter(isSpiffeId), ...named('DNS').filter(isDnsName)];
}

/** As the SPIFFE standard has it: a trust domain, and a path of plain segments. */
function isSpiffeId(text: string): boolean {
  const [scheme, none, domain = '', ...path] = text.split('/');
  const isPath = path.every((segment) => /^[\w.-]+$/.test(segment) && segment !== '.' && segment !== '..');
  return scheme === 'spiffe:' && none === '' && /^[a-z0-9._-]{1,255}$/.test(domain) && isPath && text.length <= 2048;
}

/** Perhaps with a * in the first place. */
function isDnsName(text: string): boolean {
  return /^(\*\.)?[\w-]+(\.[\w-]+)*\.?$/.test(text) && text.length <= 255;
}

/** '' for a text that is not a JSON string: no name is that. */
function plain(value: string): string {
  if (!value.startsWith('"')) return value;
  try {
    return String(JSON.parse(value));
  } catch {
    return '';
  }
}
