/** The way to a fleet: the directory, connections to agents, and a server. It keeps nothing that would be missed. */
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { GatewayConfig } from '../config/config.ts';
import { type Directory, domainId, type Host, type LocalDomain } from '../fleet/directory.ts';
import { EtcdDirectory } from '../fleet/etcd-directory.ts';
import { Fleet } from '../fleet/fleet.ts';
import { StaticDirectory } from '../fleet/static-directory.ts';
import type { Certificates } from '../grpc/certificates.ts';
import { connect } from '../grpc/remote/connect.ts';
import { openEtcd } from './etcd.ts';
import { certificatesOf, logOf, serveUntil, stopRequested } from './serving.ts';

/** Resolves when the service has been asked to end, and has. */
export async function gateway(config: GatewayConfig): Promise<void> {
  const log = logOf(config);
  const until = stopRequested();
  using certificates = certificatesOf(config, log);
  await using directories = new AsyncDisposableStack();
  const directory = await openDirectory(config, certificates, directories, log);
  // Before that nothing is known, and every answer would be a guess.
  const isReady = await Promise.race([directory.ready().then(() => true), until.then(() => false)]);
  if (!isReady) return;
  using fleet = new Fleet({
    directory,
    connect: (host) => connect(host, certificates),
    watchersPerJob: config.watchersPerJob,
  });
  const nameOf = (domain: string) => {
    const found = directory.find(domain);
    return found.found === 'one' ? found.domain.name : undefined;
  };
  await serveUntil({ mode: 'GATEWAY', jobs: fleet, host: hostname(), config, certificates, nameOf, until, log });
}

async function openDirectory(
  { directory }: GatewayConfig,
  certificates: Certificates | undefined,
  opened: AsyncDisposableStack,
  log: Logger,
): Promise<Directory> {
  if ('etcd' in directory) return opened.use(new EtcdDirectory(opened.use(openEtcd(directory.etcd)), log));
  const ask = async (host: Host, signal: AbortSignal) => await domainsOf(host, certificates, signal);
  return opened.use(await StaticDirectory.open({ path: directory.file, ask, log }));
}

async function domainsOf(
  host: Host,
  certificates: Certificates | undefined,
  signal: AbortSignal,
): Promise<readonly LocalDomain[]> {
  using agent = connect(host, certificates);
  const found: LocalDomain[] = [];
  let pageToken = '';
  do {
    const page = await agent.listDomains({ host: '', pageSize: 0, pageToken }, { signal });
    for (const { name, uuid } of page.items) found.push({ id: domainId(uuid ?? '', name, host.name), name });
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return found;
}
