/** One process for one machine: its agent, and a server for it. It closes them in reverse order. */
import type { EmbeddedConfig } from '../config/config.ts';
import { openHost, takeState } from './host.ts';
import { certificatesOf, serveUntil, stopRequested } from './serving.ts';
import { Telemetry } from './telemetry.ts';

/** Resolves when the service was asked to end, and has. */
export async function embedded(config: EmbeddedConfig): Promise<void> {
  const until = stopRequested();
  await using telemetry = await Telemetry.open(config);
  const { log } = telemetry;
  using certificates = certificatesOf(config, log);
  using state = await takeState(config.stateFolder, log);
  await using host = await openHost(config, state, telemetry);
  await using _metrics = await telemetry.listen(certificates);
  await serveUntil({
    mode: 'SERVE',
    jobs: host.agent,
    host: config.host,
    config,
    certificates,
    until,
    observer: host.observer,
    log,
  });
}
