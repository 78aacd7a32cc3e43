/** A real NBD server: qemu-nbd over a raw file, on a unix socket or on loopback, optionally with TLS. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { eventually, present } from '../checks.ts';
import { run, within } from '../real-qemu/qemu.ts';
import { stop } from '../real-qemu/while-stopped.ts';

export interface NbdServerOptions {
  readonly folder: string;
  readonly sizeBytes: number;
  readonly over: 'unix' | 'tcp';
  /** The folder of the credentials that `tlsCredentials` has made. */
  readonly tls?: string;
  /** `disk0` unless said otherwise; '' is the default export. */
  readonly exportName?: string;
  /** Its storage cannot be written at this byte. */
  readonly fault?: { readonly atByte: number; readonly errno: 'EIO' | 'ENOSPC' };
}

export class NbdServer implements AsyncDisposable {
  /** The file that it serves. */
  readonly file: string;
  /** The destination that names it. */
  readonly server:
    | { readonly $case: 'unixSocket'; readonly value: string }
    | { readonly $case: 'tcp'; readonly value: { readonly host: string; readonly port: number } };
  readonly #exportName: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  private constructor(file: string, server: NbdServer['server'], exportName: string, child: ChildProcess) {
    this.file = file;
    this.server = server;
    this.#exportName = exportName;
    this.#child = child;
    this.#exited = once(child, 'exit');
  }

  static async start({
    folder,
    sizeBytes,
    over,
    tls,
    exportName = 'disk0',
    fault,
  }: NbdServerOptions): Promise<NbdServer> {
    const file = join(folder, `${over}.served`);
    await using handle = await open(file, 'wx');
    await handle.truncate(sizeBytes);
    const socket = join(folder, 'nbd.sock');
    const port = over === 'tcp' ? await freePort() : 0;
    const address = over === 'unix' ? ['--socket', socket] : ['--bind', '127.0.0.1', '--port', String(port)];
    const credentials =
      tls === undefined
        ? []
        : ['--object', `tls-creds-x509,id=tls0,endpoint=server,dir=${tls},verify-peer=yes`, '--tls-creds', 'tls0'];
    const fixed = ['--persistent', '--shared', '8', '--export-name', exportName, '--discard', 'unmap'];
    // It prints its errors on standard error; only a client that can connect knows that it listens.
    const child = spawn('qemu-nbd', [...fixed, ...address, ...credentials, ...image(file, fault)], { stdio: 'ignore' });
    await listening(over === 'unix' ? { path: socket } : { host: '127.0.0.1', port });
    const server =
      over === 'unix'
        ? ({ $case: 'unixSocket', value: socket } as const)
        : ({ $case: 'tcp', value: { host: '127.0.0.1', port } } as const);
    return new NbdServer(file, server, exportName, child);
  }

  /** The export in a request. */
  get target() {
    return { server: this.server, exportName: this.#exportName, tlsCredentialsId: '', tlsHostname: '' };
  }

  /** It keeps listening, and answers nothing any more. */
  async hang(): Promise<void> {
    await stop(present(this.#child.pid));
  }

  goOn(): void {
    this.#child.kill('SIGCONT');
  }

  /** As if its host had lost power: nobody listens any more. */
  async die(): Promise<void> {
    this.#child.kill('SIGKILL');
    await within(10_000, 'end of qemu-nbd', this.#exited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.die();
  }
}

function image(file: string, fault: NbdServerOptions['fault']): readonly string[] {
  if (fault === undefined) return ['--format', 'raw', file];
  const { atByte, errno } = fault;
  const rule = { event: 'none', iotype: 'write', errno: constants.errno[errno], sector: atByte / 512 };
  const rules = Object.entries(rule).map(([key, value]) => `file.inject-error.0.${key}=${value}`);
  const storage = ['driver=raw', 'file.driver=blkdebug', 'file.image.driver=file', `file.image.filename=${file}`];
  return ['--image-opts', [...storage, ...rules].join(',')];
}

async function listening(address: { path: string } | { host: string; port: number }): Promise<void> {
  await eventually('qemu-nbd listens', async () => {
    const socket = connect(address);
    const isUp = await new Promise<boolean>((resolve) => {
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    });
    socket.destroy();
    return isUp ? true : undefined;
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = present(server.address() as AddressInfo | undefined);
  server.close();
  await once(server, 'close');
  return port;
}

async function openssl(...args: string[]): Promise<void> {
  await run('openssl', args);
}

/** A CA, and a certificate for each end, in a folder for QEMU's tls-creds-x509. */
export async function tlsCredentials(folder: string): Promise<{ readonly server: string; readonly client: string }> {
  const ca = { key: join(folder, 'ca.key'), cert: join(folder, 'ca.pem') };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await openssl('req', '-x509', ...key, '-keyout', ca.key, '-out', ca.cert, '-subj', '/CN=test CA', '-days', '2');
  for (const end of ['server', 'client'] as const) {
    const dir = join(folder, end);
    await mkdir(dir);
    const [own, request, cert] = [`${end}-key.pem`, 'request', `${end}-cert.pem`].map((name) => join(dir, name));
    const names = join(dir, 'names');
    await writeFile(names, `subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=${end}Auth\n`);
    const [keyFile, requestFile, certFile] = [present(own), present(request), present(cert)];
    await openssl('req', ...key, '-keyout', keyFile, '-out', requestFile, '-subj', `/CN=${end}`);
    const signed = ['-CA', ca.cert, '-CAkey', ca.key, '-CAcreateserial', '-days', '2', '-extfile', names];
    await openssl('x509', '-req', '-in', requestFile, '-out', certFile, ...signed);
    await run('cp', [ca.cert, join(dir, 'ca-cert.pem')]);
  }
  return { server: join(folder, 'server'), client: join(folder, 'client') };
}
