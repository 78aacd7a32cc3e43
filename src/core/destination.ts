/** Where a copy goes, as it was asked for. */

export type NbdServer =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export interface NbdExport {
  readonly server: NbdServer;
  readonly exportName: string;
  /** The id of a tls-creds-x509 object that QEMU has; '' for none. */
  readonly tlsCredentialsId: string;
  /** The name that the server's certificate must bear; '' for the host. */
  readonly tlsHostname: string;
}

export type Destination =
  | {
      readonly kind: 'file';
      readonly path: string;
      /** COPY_DEV: it must be a block device, whatever the field it was named in. */
      readonly mustBeDevice?: true;
    }
  | { readonly kind: 'block-device'; readonly path: string }
  | { readonly kind: 'nbd'; readonly nbd: NbdExport };

/** Which are those of a server, which is there already, has raw contents, and may hang. */
const IS_SERVED = { file: false, 'block-device': false, nbd: true } as const satisfies Record<
  Destination['kind'],
  boolean
>;

export function isServed(destination: Pick<Destination, 'kind'> | undefined): boolean {
  return destination !== undefined && IS_SERVED[destination.kind];
}

/** LUKS, inside of a qcow2 image. */
export interface Encryption {
  /** The id of a secret object that QEMU has: the key never passes through here. '': not known, as the journal was lost. */
  readonly secretId: string;
}

/** What whoever starts a VM from it has to know. */
export function keyNeeded(path: string, { secretId }: Encryption): string {
  const which = secretId === '' ? 'the key' : `the key that secret ${secretId} has`;
  return `${path} is encrypted: start the VM from it with ${which} (encrypt.key-secret)`;
}

/** As keyNeeded, of an image that is below it. */
export function keyNeededBelow(path: string, below: string): string {
  return `${below}, below ${path}, is encrypted with a key of its own: start the VM with that one, too, as before`;
}

/** Of a qcow2 node with LUKS, by the name that QEMU gives it: it is made of the node's options. */
export function encryptionOf(name: string): Encryption {
  return { secretId: /"encrypt\.key-secret": "([^"]*)"/.exec(name)?.[1] ?? '' };
}

/** The port that is registered for NBD. */
export const NBD_PORT = 10809;

/** As the NBD project's uri.md writes it, and QEMU shows it. */
export function nbdUri({ server, exportName, tlsCredentialsId }: NbdExport): string {
  const name = encodeURIComponent(exportName).replaceAll('%2F', '/');
  const scheme = tlsCredentialsId === '' ? 'nbd' : 'nbds';
  if (server.kind === 'unix') return `${scheme}+unix:///${name}?socket=${server.path}`;
  const host = server.host.includes(':') ? `[${server.host}]` : server.host;
  return `${scheme}://${host}:${server.port}/${name}`;
}
