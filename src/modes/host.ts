/** One host: its QEMUs, what is written down of its jobs, and what is measured. For both modes that have one. */
import type { Logger } from 'pino';
import { HostClock } from '../agent/host/host-clock.ts';
import { HostAgent, type HostAgentOptions } from '../agent/host-agent.ts';
import { GuestHolds } from '../agent/job/guest-holds.ts';
import { StateFolder } from '../agent/journal/state-folder.ts';
import { VirtualMachines } from '../agent/qemu/virtual-machines.ts';
import type { AgentConfig, EmbeddedConfig } from '../config/config.ts';
import { HostMeters } from '../metrics/host.ts';
import type { Telemetry } from './telemetry.ts';

/** Nobody else has it then. */
export async function takeState(path: string, log: Logger): Promise<StateFolder> {
  const state = await StateFolder.take(path);
  for (const one of state.wasOpen) log.warn({ path: one }, 'Others had access to this path; it is closed now');
  return state;
}

export async function openHost(
  config: AgentConfig | EmbeddedConfig,
  state: StateFolder,
  telemetry: Telemetry,
  owner: Pick<HostAgentOptions, 'mayChange'> = {},
) {
  const { log } = telemetry;
  const meters = new HostMeters(telemetry.meters, async () => await agent.figures.now());
  const observer = telemetry.with(meters);
  const { qmpFolder: folder, qmpPattern: pattern, qmpNamed: named } = config;
  const machines = new VirtualMachines({ folder, pattern, named, logger: log, observer });
  const agent = await HostAgent.open({
    ...config,
    ...owner,
    machines,
    owners: { own: await state.owner(), adopted: config.adopts },
    journals: { folder: state.jobsFolder, clock: new HostClock(), observer },
    holds: new GuestHolds(state.holdsFolder, log),
    observer,
    onEnded: (job) => meters.ended(job),
    logger: log,
  });
  return { agent, machines, observer, [Symbol.asyncDispose]: async () => await agent.close() };
}
