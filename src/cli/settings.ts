/** The service to ask, and the form of results: from flags, the environment and the configuration file. */
import { type Command, Option } from 'commander';
import type { ConnectOptions } from '../client/index.ts';
import { defined } from '../lib/defined.ts';
import { ConfigFile, type Context } from './config-file.ts';
import { type Terminal, UsageError } from './terminal.ts';

export interface GlobalFlags extends Partial<Context> {
  readonly context?: string;
  readonly config?: string;
  readonly output?: 'text' | 'json';
}

const DEFAULT_ADDRESS = '127.0.0.1:50051';
/** A service that restarts is back in a second or two; a person at a terminal does not wait longer. */
const SERVICE_IS_BACK_MS = 3000;

export function addGlobals(program: Command): Command {
  return program
    .addOption(
      new Option(
        '--address <address>',
        'the service: HOST:PORT or unix:/PATH; if repeated, the next one is used when one is lost',
      )
        .env('BLOCKJOB_ADDRESS')
        .argParser((text: string, before: readonly string[] | undefined) => [...(before ?? []), ...text.split(',')]),
    )
    .addOption(new Option('--ca <file>', 'the certificate authorities to trust; turns on TLS').env('BLOCKJOB_CA'))
    .addOption(new Option('--cert <file>', 'your certificate').env('BLOCKJOB_CERT'))
    .addOption(new Option('--key <file>', 'the key of your certificate').env('BLOCKJOB_KEY'))
    .addOption(new Option('--server-name <name>', 'the name in the service’s certificate').env('BLOCKJOB_SERVER_NAME'))
    .addOption(new Option('--context <name>', 'a context of the configuration file').env('BLOCKJOB_CONTEXT'))
    .addOption(
      new Option('--config <file>', 'the configuration file (~/.config/blockjob/config.yaml)').env('BLOCKJOB_CONFIG'),
    )
    .addOption(
      new Option('--output <how>', 'text for people, json for programs: one object per line')
        .choices(['text', 'json'])
        .env('BLOCKJOB_OUTPUT'),
    );
}

export async function configFileOf(flags: GlobalFlags, terminal: Terminal): Promise<ConfigFile> {
  const { config } = flags;
  return await ConfigFile.read(config ?? ConfigFile.pathIn(terminal), { mustExist: config !== undefined });
}

/** A flag or the environment takes precedence over the context. */
export async function connectionOf(flags: GlobalFlags, terminal: Terminal): Promise<ConnectOptions> {
  const context = await contextOf(flags, terminal);
  const { ca, cert, key, serverName } = { ...context, ...defined(flags) };
  if ((cert === undefined) !== (key === undefined)) throw new UsageError('give --cert and --key together');
  const isTls = [ca, cert, serverName].some((one) => one !== undefined);
  return {
    address: flags.address ?? context?.address ?? [DEFAULT_ADDRESS],
    ...(isTls ? { tls: { ca, cert, key, serverName } } : {}),
    patienceMs: SERVICE_IS_BACK_MS,
  };
}

/** No context if an address is given and none is named: the address is enough. */
async function contextOf(flags: GlobalFlags, terminal: Terminal): Promise<Context | undefined> {
  if (flags.address !== undefined && flags.context === undefined) return undefined;
  const file = await configFileOf(flags, terminal);
  const name = flags.context ?? file.current;
  return name === undefined ? undefined : file.context(name);
}
