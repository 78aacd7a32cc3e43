/** The entrance to a fleet: the directory, connections to agents, and a server. It keeps no lasting state. */
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { GatewayConfig } from '../config/config.ts';
import { type Directory, domainId, type Host, type LocalDomain } from '../fleet/directory/directory.ts';
import { EtcdDirectory } from '../fleet/directory/etcd-directory.ts';
import { StaticDirectory } from '../fleet/directory/static-directory.ts';
import type { Agent } from '../fleet/gateway/agents.ts';
import { Fleet } from '../fleet/gateway/fleet.ts';
import { Reach } from '../fleet/gateway/reach.ts';
import { connect } from '../grpc/remote/connect.ts';
import { bothObservers } from '../lib/observer.ts';
import { CallMeters } from '../metrics/calls.ts';
import { addDirectory, addFleet } from '../metrics/fleet.ts';
import { openEtcd } from './etcd.ts';
import { certificatesOf, serveUntil, stopRequested } from './serving.ts';
import { Telemetry } from './telemetry.ts';

/** Resolves when the service was asked to end, and has. */
export async function gateway(config: GatewayConfig): Promise<void> {
  const until = stopRequested();
  await using telemetry = await Telemetry.open(config);
  const { log } = telemetry;
  using certificates = certificatesOf(config, log);
  const reach = new Reach();
  const observer = telemetry.with(bothObservers(new CallMeters(telemetry.meters, 'ask'), reach));
  const connectTo = (host: Host) => connect(host, certificates, observer);
  await using directories = new AsyncDisposableStack();
  const directory = await openDirectory(config, connectTo, directories, log);
  using fleet = new Fleet({ directory, connect: connectTo, watchersPerJob: config.watchersPerJob });
  addDirectory(telemetry.meters, () => directory.freshness.live);
  addFleet(telemetry.meters, () => fleet.figures(reach));
  await using _metrics = await telemetry.listen(certificates);
  // Before that nothing is known, and every answer would be a guess.
  const isReady = await Promise.race([directory.ready().then(() => true), until.then(() => false)]);
  if (!isReady) return;
  await serveUntil({
    mode: 'GATEWAY',
    jobs: fleet,
    host: hostname(),
    config,
    certificates,
    until,
    observer,
    log,
  });
}

async function openDirectory(
  { directory }: GatewayConfig,
  connectTo: (host: Host) => Agent,
  opened: AsyncDisposableStack,
  log: Logger,
): Promise<Directory> {
  if ('etcd' in directory) return opened.use(new EtcdDirectory(opened.use(openEtcd(directory.etcd)), log));
  const ask = async (host: Host, signal: AbortSignal) => await domainsOf(connectTo(host), host.name, signal);
  return opened.use(await StaticDirectory.open({ path: directory.file, ask, log }));
}

async function domainsOf(connected: Agent, host: string, signal: AbortSignal): Promise<readonly LocalDomain[]> {
  using agent = connected;
  const found: LocalDomain[] = [];
  let pageToken = '';
  do {
    const page = await agent.listDomains({ host: '', pageSize: 0, pageToken }, { signal });
    for (const { name, uuid } of page.items) found.push({ id: domainId(uuid ?? '', name, host), name });
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return found;
}
