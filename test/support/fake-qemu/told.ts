/** The options that a mode gets from a command line, without starting it. */
import { commandLine } from '../../../src/config/command-line.ts';
import type { AgentConfig, EmbeddedConfig, GatewayConfig } from '../../../src/config/config.ts';
import { present } from '../checks.ts';

export type Config = EmbeddedConfig | AgentConfig | GatewayConfig;

/** Rejects with the error that the service would report. */
export async function toldBy(args: readonly string[]): Promise<Config> {
  let told: Config | undefined;
  const note = async (config: Config) => {
    told = config;
    await Promise.resolve();
  };
  await commandLine({ embedded: note, agent: note, gateway: note }).parseAsync(args, { from: 'user' });
  return present(told);
}
