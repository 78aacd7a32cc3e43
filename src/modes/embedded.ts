/** One process for one machine: its agent, and a server for it. What goes first comes last. */
import { HostAgent } from '../agent/host-agent.ts';
import { openJobs } from '../agent/start-up.ts';
import { StateFolder } from '../agent/state-folder.ts';
import { VirtualMachines } from '../agent/virtual-machines.ts';
import type { EmbeddedConfig } from '../config/config.ts';
import { certificatesOf, logOf, serveUntil, stopRequested } from './serving.ts';

/** Resolves when the service has been asked to end, and has. */
export async function embedded(config: EmbeddedConfig): Promise<void> {
  const log = logOf(config);
  const until = stopRequested();
  using certificates = certificatesOf(config, log);
  using state = await StateFolder.take(config.stateFolder);
  const machines = new VirtualMachines({ folder: config.qmpFolder, named: config.qmpNamed, log });
  const agent = new HostAgent({ ...config, machines, jobsFolder: state.jobsFolder, logger: log });
  await machines.start();
  try {
    await agent.adopt(await openJobs(state.jobsFolder, log));
    const nameOf = (domain: string) => machines.find(domain)?.name;
    await serveUntil({ mode: 'SERVE', jobs: agent, host: config.host, config, certificates, nameOf, until, log });
  } finally {
    await agent.close();
    await machines.close();
  }
}
