/** The command line → Config, with every complaint in plain words. The only reader of it and of the environment. */
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { Limits } from './core/limits.ts';
import { type Address, parseAddress } from './lib/address.ts';

export interface EmbeddedConfig {
  readonly mode: 'embedded';
  readonly host: string;
  readonly listen: Address;
  readonly qmpFolder: string | undefined;
  readonly qmpNamed: readonly { readonly name: string; readonly socketPath: string }[];
  readonly stateFolder: string;
  /** Where copies may go. */
  readonly allowed: {
    readonly folders: readonly string[];
    readonly nbdServers: readonly { readonly host: string; readonly port: number | undefined }[];
  };
  readonly limits: Limits;
  readonly logLevel: string;
  readonly drainMs: number;
}

export const VERSION = '0.1.0';

interface ServeFlags {
  readonly listen: Address;
  readonly qmp: readonly { readonly name: string; readonly socketPath: string }[];
  readonly qmpDir?: string;
  readonly stateDir: string;
  readonly allowDestination: readonly AllowedDestination[];
  readonly maxJobs: number;
  readonly maxWatchers: number;
  readonly keepDays: number;
  readonly keepJobs: number;
  readonly hostName: string;
  readonly logLevel: string;
  readonly drainSeconds: number;
}

/** Runs the command that the arguments name; prints help, or what is wrong, and exits where there is none. */
export async function runCommandLine(
  argv: readonly string[],
  modes: { readonly embedded: (config: EmbeddedConfig) => Promise<void> },
): Promise<void> {
  const program = new Command('blockjobd')
    .description('Moves the disks of running QEMU virtual machines, and says truly how that ended.')
    .version(VERSION)
    .showHelpAfterError('(blockjobd --help tells more)');

  program
    .command('serve')
    .description('serve the VMs of this machine on loopback or on a unix socket')
    .addOption(
      new Option('--listen <address>', 'where clients connect: HOST:PORT on loopback, or unix:/PATH')
        .argParser(parseListen)
        .default({ host: '127.0.0.1', port: 50051 } satisfies Address, '127.0.0.1:50051'),
    )
    .addOption(
      new Option('--qmp <name=socket>', 'the QMP socket of a VM, under a name of your choice (repeatable)')
        .argParser(collect(parseNamed))
        .default([], 'none'),
    )
    .option('--qmp-dir <folder>', 'a folder of QMP sockets, one a VM; they may come and go')
    .option('--state-dir <folder>', 'where the journals of the jobs are kept', '/var/lib/blockjobd')
    .addOption(
      new Option(
        '--allow-destination <place>',
        'copies may go below this FOLDER, or to nbd://HOST[:PORT], any with nbd://* (repeatable)',
      )
        .argParser(collect(parseAllowed))
        .default([], 'none: every copy is refused'),
    )
    .option('--max-jobs <number>', 'how many jobs may run at a time', parseCount, 100)
    .option('--max-watchers <number>', 'how many clients may watch one job', parseCount, 100)
    .option('--keep-days <days>', 'how long ended jobs are remembered; a day at least', parseCount, 30)
    .option(
      '--keep-jobs <number>',
      'how many ended jobs are remembered, besides those of the last day',
      parseCount,
      1000,
    )
    .option('--host-name <name>', "this machine's name in Job.host", hostname())
    .addOption(
      new Option('--log-level <level>', 'how much to log, as JSON lines on standard error')
        .choices(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
        .default('info'),
    )
    .option('--drain-seconds <seconds>', 'how long calls under way may take at SIGTERM', parseSeconds, 10)
    .action(async (flags: ServeFlags, command: Command) => {
      if (flags.qmp.length === 0 && flags.qmpDir === undefined) {
        command.error('error: name at least one VM: --qmp NAME=SOCKET, or --qmp-dir FOLDER');
      }
      await modes.embedded({
        mode: 'embedded',
        host: flags.hostName,
        listen: flags.listen,
        qmpFolder: flags.qmpDir === undefined ? undefined : resolve(flags.qmpDir),
        qmpNamed: flags.qmp,
        stateFolder: resolve(flags.stateDir),
        allowed: {
          folders: flags.allowDestination.flatMap((place) => ('folder' in place ? place.folder : [])),
          nbdServers: flags.allowDestination.flatMap((place) => ('host' in place ? place : [])),
        },
        limits: {
          jobs: flags.maxJobs,
          watchersPerJob: flags.maxWatchers,
          keep: { days: flags.keepDays, jobs: flags.keepJobs },
        },
        logLevel: flags.logLevel,
        drainMs: flags.drainSeconds * 1000,
      });
    });

  await program.parseAsync([...argv], { from: 'user' });
}

function parseListen(text: string): Address {
  const address = parseAddress(text);
  if (typeof address === 'string') throw new InvalidArgumentError(address);
  return address;
}

function parseNamed(text: string): { name: string; socketPath: string } {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError('Give NAME=SOCKET, as web1=/run/web1.qmp.');
  return { name: text.slice(0, at), socketPath: resolve(text.slice(at + 1)) };
}

type AllowedDestination = { readonly folder: string } | { readonly host: string; readonly port: number | undefined };

function parseAllowed(text: string): AllowedDestination {
  if (!text.startsWith('nbd://')) return { folder: resolve(text) };
  const found = /^nbd:\/\/(\*|\[[0-9a-fA-F:.]+\]|[^:/[\]]+)(?::(\d{1,5}))?$/.exec(text);
  const [, host, port] = found ?? [];
  if (host === undefined) throw new InvalidArgumentError('Give nbd://HOST, nbd://HOST:PORT or nbd://*.');
  return { host: host.replaceAll(/[[\]]/g, ''), port: port === undefined ? undefined : Number(port) };
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0 && seconds <= 3600)) throw new InvalidArgumentError('Give 0 to 3600 seconds.');
  return seconds;
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!(Number.isSafeInteger(count) && count >= 1 && count <= 1_000_000)) {
    throw new InvalidArgumentError('Give a whole number from 1 to 1000000.');
  }
  return count;
}

function collect<T>(parse: (text: string) => T) {
  return (text: string, before: readonly T[]): readonly T[] => [...before, parse(text)];
}
