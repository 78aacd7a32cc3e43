/** One host of a fleet: its agent, its place in the directory, and a server for gateways. */
import { setTimeout as sleep } from 'node:timers/promises';
import { HostClock } from '../agent/host/host-clock.ts';
import { HostAgent } from '../agent/host-agent.ts';
import { GuestHolds } from '../agent/job/guest-holds.ts';
import { StateFolder } from '../agent/journal/state-folder.ts';
import { VirtualMachines } from '../agent/qemu/virtual-machines.ts';
import { WhoRunsHere } from '../agent/qemu/who-runs-here.ts';
import type { AgentConfig } from '../config/config.ts';
import { domainId, type Membership } from '../fleet/directory/directory.ts';
import { EtcdMembership } from '../fleet/membership/etcd-membership.ts';
import { Fence } from '../fleet/membership/fence.ts';
import { StaticMembership } from '../fleet/membership/static-membership.ts';
import { VERSION } from '../lib/version.ts';
import { addDirectory, OwnershipMeters } from '../metrics/fleet.ts';
import { HostMeters } from '../metrics/host.ts';
import { openEtcd } from './etcd.ts';
import { certificatesOf, serveUntil, stopRequested } from './serving.ts';
import { Telemetry } from './telemetry.ts';

/** A directory that does not answer must not keep an agent from its jobs. */
const JOIN_MS = 5000;

/** Resolves when the service has been asked to end, and has. Rejects with HostNameTaken. */
export async function agent(config: AgentConfig): Promise<void> {
  const stopped = stopRequested();
  await using telemetry = await Telemetry.open(config);
  const { log } = telemetry;
  using certificates = certificatesOf(config, log);
  using state = await StateFolder.take(config.stateFolder);
  for (const path of state.wasOpen) log.warn({ path }, 'others could get at this until now; it is closed to them');
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
  // It is awaited below; until then a refusal is no unhandled one.
  refused.catch(() => undefined);
  await Promise.race([joined, sleep(JOIN_MS, undefined, { ref: false })]);

  const meters = new HostMeters(telemetry.meters, async () => await host.figures.now());
  const ownership = new OwnershipMeters(telemetry.meters);
  addDirectory(telemetry.meters, () => membership.standing.is === 'member');
  const observer = telemetry.with(meters);
  const journals = { folder: state.jobsFolder, clock: new HostClock(), observer };
  const { qmpFolder: folder, qmpPattern: pattern, qmpNamed: named } = config;
  const machines = new VirtualMachines({ folder, pattern, named, log, observer });
  const fence = new Fence(membership, config.host);
  await using host = await HostAgent.open({
    ...config,
    machines,
    owners: { own: await state.owner(), adopted: config.adopts },
    journals,
    holds: new GuestHolds(state.holdsFolder, log),
    mayChange: async (domain, call) => await ownership.asking(fence.mayChange(domain, call)),
    observer,
    onEnded: (job) => meters.ended(job),
    logger: log,
  });
  await using _metrics = await telemetry.listen(certificates);
  await using _presence = new WhoRunsHere(machines, {
    known: (domains, options) =>
      membership.advertise(
        domains.map(({ name, uuid }) => ({ id: domainId(uuid ?? '', name, config.host), name })),
        options,
      ),
    arrived: ({ name, uuid }) => membership.arrived(domainId(uuid ?? '', name, config.host)),
    log,
  });
  const until = Promise.race([stopped, refused]);
  await serveUntil({
    mode: 'AGENT',
    jobs: host,
    host: config.host,
    config,
    certificates,
    gateways: config.gateways,
    until,
    observer,
    log,
  });
}
