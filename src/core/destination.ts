/** The destination of a copy, as requested. */

export type NbdServer =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export interface NbdExport {
  readonly server: NbdServer;
  readonly exportName: string;
  /** The id of a tls-creds-x509 object in QEMU; '' for none. */
  readonly tlsCredentialsId: string;
  /** The name in the server's certificate; '' for the host of the URI. */
  readonly tlsHostname: string;
}

export type Destination =
  | {
      readonly kind: 'file';
      readonly path: string;
      /** COPY_DEV: the destination must be a block device, whichever field names it. */
      readonly mustBeDevice?: true;
    }
  | { readonly kind: 'block-device'; readonly path: string }
  | { readonly kind: 'nbd'; readonly nbd: NbdExport };

/** Whether a server has the destination. Such a destination exists before the copy, has raw contents, and may hang. */
const IS_SERVED = { file: false, 'block-device': false, nbd: true } as const satisfies Record<
  Destination['kind'],
  boolean
>;

export function isServed(destination: Pick<Destination, 'kind'> | undefined): boolean {
  return destination !== undefined && IS_SERVED[destination.kind];
}

/** LUKS inside a qcow2 image. */
export interface Encryption {
  /** The id of a secret object in QEMU: this service never has the key. '' if the journal, and so the id, was lost. */
  readonly secretId: string;
}

/** A note for the person who starts a VM from the image. */
export function keyNeeded(path: string, { secretId }: Encryption): string {
  const which = secretId === '' ? 'the key' : `the key that secret ${secretId} has`;
  return `${path} is encrypted: start the VM from it with ${which} (encrypt.key-secret)`;
}

/** Like keyNeeded, for an image below it. */
export function keyNeededBelow(path: string, below: string): string {
  return `${below}, below ${path}, is encrypted with a key of its own: start the VM with that one, too, as before`;
}

/** The id of the secret of a qcow2 node with LUKS, from QEMU's name for the node, which lists the node's options. */
export function encryptionOf(name: string): Encryption {
  return { secretId: /"encrypt\.key-secret": "([^"]*)"/.exec(name)?.[1] ?? '' };
}

/** The registered port of NBD. */
export const NBD_PORT = 10809;

/** The form that the NBD project's uri.md specifies, and QEMU shows. */
export function nbdUri({ server, exportName, tlsCredentialsId }: NbdExport): string {
  const name = encodeURIComponent(exportName).replaceAll('%2F', '/');
  const scheme = tlsCredentialsId === '' ? 'nbd' : 'nbds';
  if (server.kind === 'unix') return `${scheme}+unix:///${name}?socket=${server.path}`;
  const host = server.host.includes(':') ? `[${server.host}]` : server.host;
  return `${scheme}://${host}:${server.port}/${name}`;
}
