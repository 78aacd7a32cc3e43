/** One process: a host's agent, and a server for it. What goes first comes last. */
import { pino } from 'pino';
import { HostAgent } from '../agent/host-agent.ts';
import { openJobs } from '../agent/start-up.ts';
import { StateFolder } from '../agent/state-folder.ts';
import { VirtualMachines } from '../agent/virtual-machines.ts';
import type { EmbeddedConfig } from '../config.ts';
import { serve } from '../grpc/server.ts';

/** Resolves when the service has been asked to end, and has. */
export async function embedded(config: EmbeddedConfig): Promise<void> {
  const log = pino({ level: config.logLevel }, pino.destination({ dest: 2, sync: true }));
  const stop = stopRequested();
  using state = await StateFolder.take(config.stateFolder);
  const machines = new VirtualMachines({ folder: config.qmpFolder, named: config.qmpNamed, log });
  const agent = new HostAgent({
    host: config.host,
    machines,
    jobsFolder: state.jobsFolder,
    allowed: config.allowed,
    limits: config.limits,
    logger: log,
  });
  await machines.start();
  try {
    await agent.adopt(await openJobs(state.jobsFolder, log));
    const server = await serve(agent, config.listen, log);
    process.stdout.write(`blockjobd serves on ${server.address}\n`);
    log.info({ signal: await stop }, 'stopping; jobs go on in QEMU');
    await server.drain(config.drainMs);
  } finally {
    await agent.close();
    await machines.close();
  }
}

/** The first SIGTERM or SIGINT drains; a second one is the system's own again, and kills. */
async function stopRequested(): Promise<string> {
  return await new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
}
