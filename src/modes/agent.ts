/** One host of a fleet: its agent, its place in the directory, and a server for gateways. */
import { setTimeout as sleep } from 'node:timers/promises';
import { WhoRunsHere } from '../agent/qemu/who-runs-here.ts';
import type { AgentConfig } from '../config/config.ts';
import { domainId, type Membership } from '../fleet/directory/directory.ts';
import { EtcdMembership } from '../fleet/membership/etcd-membership.ts';
import { Fence } from '../fleet/membership/fence.ts';
import { StaticMembership } from '../fleet/membership/static-membership.ts';
import { VERSION } from '../lib/version.ts';
import { addDirectory, OwnershipMeters } from '../metrics/fleet.ts';
import { openEtcd } from './etcd.ts';
import { openHost, takeState } from './host.ts';
import { certificatesOf, serveUntil, stopRequested } from './serving.ts';
import { Telemetry } from './telemetry.ts';

/** A directory that does not answer must not keep an agent from its jobs. */
const JOIN_MS = 5000;

/** Resolves when the service was asked to end, and has. Rejects with HostNameTaken. */
export async function agent(config: AgentConfig): Promise<void> {
  const stopped = stopRequested();
  await using telemetry = await Telemetry.open(config);
  const { log } = telemetry;
  using certificates = certificatesOf(config, log);
  using state = await takeState(config.stateFolder, log);
  using etcd = config.membership && openEtcd(config.membership.etcd);
  await using membership: Membership =
    etcd === undefined || config.membership === undefined
      ? new StaticMembership()
      : new EtcdMembership({
          etcd,
          host: {
            name: config.host,
            address: config.membership.advertise,
            identity: certificates?.identity ?? '',
            version: VERSION,
            instance: await state.instance(),
          },
          ttlSeconds: config.membership.ttlSeconds,
          log,
        });
  const joined = membership.join();
  const refused = joined.then(async () => await new Promise<never>(() => undefined));
  // It is awaited below; until then its rejection must not count as unhandled.
  refused.catch(() => undefined);
  await Promise.race([joined, sleep(JOIN_MS, undefined, { ref: false })]);

  const ownership = new OwnershipMeters(telemetry.meters);
  addDirectory(telemetry.meters, () => membership.standing.is === 'member');
  const fence = new Fence(membership, config.host);
  await using host = await openHost(config, state, telemetry, {
    mayChange: async (domain, call) => await ownership.asking(fence.mayChange(domain, call)),
  });
  await using _metrics = await telemetry.listen(certificates);
  await using _presence = new WhoRunsHere(host.machines, {
    known: (domains, options) =>
      membership.advertise(
        domains.map(({ name, uuid }) => ({ id: domainId(uuid ?? '', name, config.host), name })),
        options,
      ),
    arrived: ({ name, uuid }) => membership.arrived(domainId(uuid ?? '', name, config.host)),
    logger: log,
  });
  const until = Promise.race([stopped, refused]);
  await serveUntil({
    mode: 'AGENT',
    jobs: host.agent,
    host: config.host,
    config,
    certificates,
    gateways: config.gateways,
    until,
    observer: host.observer,
    log,
  });
}
