/** Where the copy of a round goes: a new file, or an NBD server that hangs, loses all or is cut off in the middle. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ImageFormat } from '../../generated/blockjob/v1/job.ts';
import { TcpProxy } from '../support/hostile/tcp-proxy.ts';
import { NbdServer } from '../support/images/nbd-server.ts';
import type { ChainImage } from '../support/real-qemu/qemu.ts';
import type { Trouble } from './plan.ts';

export interface Destination extends AsyncDisposable {
  /** As the service and QEMU name it. */
  readonly name: string;
  /** The image to check. */
  readonly image: ChainImage;
  readonly isNbd: boolean;
  readonly request: { readonly target: Target; readonly format: ImageFormat };
  begin(trouble: Trouble): Promise<void>;
  /** Resumes the jobs that can continue. */
  end(): void;
}

type Target = { readonly $case: 'file'; readonly value: string } | { readonly $case: 'nbd'; readonly value: NbdTarget };

interface NbdTarget {
  readonly server: { readonly $case: 'tcp'; readonly value: { readonly host: string; readonly port: number } };
  readonly exportName: string;
  readonly tlsCredentialsId: string;
  readonly tlsHostname: string;
}

const HOST = '127.0.0.1';
const EXPORT = 'disk0';
/** The addresses that the service has to allow, so that all of them can be used. */
export const ALLOWED_NBD = `nbd://${HOST}`;

/** A destination that the service makes. */
export function newFile(folder: string, name: string, format: ChainImage['format']): Destination {
  const path = join(folder, `${name}.${format}`);
  const asked = format === 'raw' ? ImageFormat.IMAGE_FORMAT_RAW : ImageFormat.IMAGE_FORMAT_QCOW2;
  return {
    name: path,
    image: { path, format },
    isNbd: false,
    request: { target: { $case: 'file', value: path }, format: asked },
    begin: async () => undefined,
    end: () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** An export, with a connection that can be cut. */
export async function nbdServer(folder: string, sizeBytes: number): Promise<Destination> {
  await using held = new AsyncDisposableStack();
  await mkdir(folder);
  const server = held.use(await NbdServer.start({ folder, sizeBytes, over: 'tcp' }));
  if (server.server.$case !== 'tcp') throw new Error('not served over TCP');
  const line = held.use(await TcpProxy.to(server.server.value.port));
  const { port } = line;
  const value = {
    server: { $case: 'tcp', value: { host: HOST, port } },
    exportName: EXPORT,
    tlsCredentialsId: '',
    tlsHostname: '',
  } as const;
  const begin: Record<Trouble, () => Promise<void> | void> = {
    hangs: async () => await server.hang(),
    'loses all': () => line.hole(),
    'is cut off': () => line.cut(),
  };
  const open = held.move();
  return {
    name: `nbd://${HOST}:${port}/${EXPORT}`,
    image: { path: server.file, format: 'raw' },
    isNbd: true,
    request: { target: { $case: 'nbd', value }, format: ImageFormat.IMAGE_FORMAT_UNSPECIFIED },
    begin: async (trouble) => await begin[trouble](),
    end: () => server.goOn(),
    [Symbol.asyncDispose]: async () => await open.disposeAsync(),
  };
}
