/** One process for one machine: its agent, and a server for it. What goes first comes last. */

import { HostClock } from '../agent/host/host-clock.ts';
import { HostAgent } from '../agent/host-agent.ts';
import { GuestHolds } from '../agent/job/guest-holds.ts';
import { StateFolder } from '../agent/journal/state-folder.ts';
import { VirtualMachines } from '../agent/qemu/virtual-machines.ts';
import type { EmbeddedConfig } from '../config/config.ts';
import { HostMeters } from '../metrics/host.ts';
import { certificatesOf, serveUntil, stopRequested } from './serving.ts';
import { Telemetry } from './telemetry.ts';

/** Resolves when the service has been asked to end, and has. */
export async function embedded(config: EmbeddedConfig): Promise<void> {
  const until = stopRequested();
  await using telemetry = await Telemetry.open(config);
  const { log } = telemetry;
  using certificates = certificatesOf(config, log);
  using state = await StateFolder.take(config.stateFolder);
  for (const path of state.wasOpen) log.warn({ path }, 'others could get at this until now; it is closed to them');
  const meters = new HostMeters(telemetry.meters, async () => await agent.figures.now());
  const observer = telemetry.with(meters);
  const journals = { folder: state.jobsFolder, clock: new HostClock(), observer };
  const { qmpFolder: folder, qmpPattern: pattern, qmpNamed: named } = config;
  const machines = new VirtualMachines({ folder, pattern, named, log, observer });
  await using agent = await HostAgent.open({
    ...config,
    machines,
    owners: { own: await state.owner(), adopted: config.adopts },
    journals,
    holds: new GuestHolds(state.holdsFolder, log),
    observer,
    onEnded: (job) => meters.ended(job),
    logger: log,
  });
  await using _metrics = await telemetry.listen(certificates);
  await serveUntil({
    mode: 'SERVE',
    jobs: agent,
    host: config.host,
    config,
    certificates,
    until,
    observer,
    log,
  });
}
