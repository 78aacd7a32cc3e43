/** DEST of the command line → Destination: the path of a file or a block device, or the URI of an NBD export. */
import { type Destination, ImageFormat } from '../client/index.ts';
import { UsageError } from './terminal.ts';

export interface DestinationFlags {
  readonly blockdev?: boolean;
  readonly format?: 'raw' | 'qcow2';
  readonly raw?: boolean;
  readonly encryptionSecret?: string;
  readonly nbdTlsCreds?: string;
  readonly nbdTlsHostname?: string;
}

const FORMATS = { raw: ImageFormat.IMAGE_FORMAT_RAW, qcow2: ImageFormat.IMAGE_FORMAT_QCOW2 };

export function destinationFrom(text: string, flags: DestinationFlags): Destination {
  if (flags.raw === true && flags.format === 'qcow2')
    throw new UsageError('--raw and --format qcow2 exclude each other');
  const named = flags.raw === true ? 'raw' : flags.format;
  const format = named === undefined ? ImageFormat.IMAGE_FORMAT_UNSPECIFIED : FORMATS[named];
  const encryption = flags.encryptionSecret === undefined ? undefined : { secretId: flags.encryptionSecret };
  return { target: targetOf(text, flags), format, encryption };
}

function targetOf(text: string, flags: DestinationFlags): NonNullable<Destination['target']> {
  const isNbd = /^nbd(\+unix|\+tls)?:\/\//.test(text);
  if (!isNbd) return { $case: flags.blockdev === true ? 'blockDevice' : 'file', value: text };
  if (flags.blockdev === true) throw new UsageError('--blockdev is for the path of a block device, not for NBD');
  return { $case: 'nbd', value: nbdFrom(text, flags) };
}

function nbdFrom(text: string, { nbdTlsCreds = '', nbdTlsHostname = '' }: DestinationFlags) {
  const example = 'nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=/PATH';
  if (!URL.canParse(text)) throw new UsageError(`${text} is not an NBD URI: give ${example}`);
  const url = new URL(text);
  const tls = { tlsCredentialsId: nbdTlsCreds, tlsHostname: nbdTlsHostname };
  const exportName = decoded(url.pathname.replace(/^\//, ''));
  if (exportName === undefined) throw new UsageError(`${text} is not an NBD URI: write a % in it as %25`);
  if (url.protocol === 'nbd+unix:') {
    const value = url.searchParams.get('socket');
    if (value === null) throw new UsageError(`${text} names no socket: give ${example}`);
    return { server: { $case: 'unixSocket', value } as const, exportName, ...tls };
  }
  if (url.hostname === '') throw new UsageError(`${text} names no host: give ${example}`);
  const host = url.hostname.replaceAll(/[[\]]/g, '');
  return { server: { $case: 'tcp', value: { host, port: Number(url.port) } } as const, exportName, ...tls };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
