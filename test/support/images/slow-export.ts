/** An NBD export behind a slow connection. */
import { ImageFormat } from '../../../generated/blockjob/v1/job.ts';
import { TcpProxy } from '../hostile/tcp-proxy.ts';
import { NbdServer } from './nbd-server.ts';

/** For --allow-destination. */
export const LOOPBACK = 'nbd://127.0.0.1';

export async function slowExport(folder: string, sizeBytes: number, bytesPerSecond: number) {
  await using held = new AsyncDisposableStack();
  const { server, file } = held.use(await NbdServer.start({ folder, sizeBytes, over: 'tcp' }));
  if (server.$case !== 'tcp') throw new Error('not served over TCP');
  const line = held.use(await TcpProxy.to(server.value.port, { bytesPerSecond }));
  const ours = held.move();
  const value = { host: '127.0.0.1', port: line.port };
  const nbd = { server: { $case: 'tcp', value }, exportName: 'disk0', tlsCredentialsId: '', tlsHostname: '' } as const;
  return {
    /** The file behind it. */
    file,
    destination: { target: { $case: 'nbd', value: nbd }, format: ImageFormat.IMAGE_FORMAT_UNSPECIFIED } as const,
    [Symbol.asyncDispose]: async () => await ours.disposeAsync(),
  };
}
