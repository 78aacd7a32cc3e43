/** The options that commands share, and their meaning. Errors for options that exclude each other are here. */
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { type Address, isLoopback, type Port } from '../lib/address.ts';
import type { TlsFiles } from '../lib/tls-files.ts';
import { addCallerLimits, type CallerFlags, callerLimitsOf } from './caller-options.ts';
import type { HostConfig, ServingConfig, Sideline } from './config.ts';
import { tracesIn } from './environment.ts';
import {
  type AllowedDestination,
  collect,
  parseAllowed,
  parseCount,
  parseFile,
  parseHostName,
  parseListen,
  parseMetrics,
  parseNamed,
  parseOwner,
  parsePage,
  parsePattern,
  parseSeconds,
} from './values.ts';

export interface ServingFlags extends CallerFlags {
  readonly listen: Address;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly policy?: string;
  readonly page: Port | 'off';
  readonly metrics: Port | 'off';
  readonly logLevel: string;
  readonly drainSeconds: number;
}

const PAGE: Port = { host: '127.0.0.1', port: 50080 };

/** `page`: its default address; off for an agent, because the gateway shows the same. */
export function addServing(command: Command, page: Port | 'off' = PAGE): Command {
  const serving = command
    .addOption(
      new Option('--listen <address>', 'the address for clients: HOST:PORT or unix:/PATH; plaintext on loopback only')
        .argParser(parseListen)
        .default({ host: '127.0.0.1', port: 50051 } satisfies Address, '127.0.0.1:50051'),
    )
    .option('--tls-cert <file>', 'the certificate of this service, with its intermediate certificates', parseFile)
    .option('--tls-key <file>', 'the key of that certificate', parseFile)
    .option('--tls-ca <file>', 'the authorities whose certificates are accepted', parseFile)
    .option(
      '--policy <file>',
      'the callers and their rights on domains; needs --tls-cert. Without it every caller with a certificate may do everything; ' +
        'for an agent, only its gateways may',
      parseFile,
    )
    .addOption(
      new Option(
        '--page <address>',
        'the address of a read-only page for browsers: HOST:PORT on loopback, or off. The default is off for an agent, ' +
          'with --policy, and where --listen is a unix socket',
      )
        .argParser(parsePage)
        .default(page, page === 'off' ? page : `${page.host}:${page.port}`),
    )
    .addOption(
      new Option('--metrics <address>', 'the address of the metrics for Prometheus, in plain HTTP: HOST:PORT, or off')
        .argParser(parseMetrics)
        .default({ host: '127.0.0.1', port: 9464 }, '127.0.0.1:9464'),
    )
    .addOption(
      new Option('--log-level <level>', 'the least level of the log, which is JSON lines on standard error')
        .choices(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
        .default('info'),
    )
    .option('--drain-seconds <seconds>', 'how long calls in progress may take after SIGTERM', parseSeconds, 10);
  return addCallerLimits(serving);
}

export function servingOf(flags: ServingFlags, command: Command): ServingConfig {
  const { listen, policy } = flags;
  const sideline = (name: 'page' | 'metrics'): Sideline | undefined => {
    const port = flags[name];
    return port === 'off' ? undefined : { ...port, isAsked: command.getOptionValueSource(name) !== 'default' };
  };
  const page = sideline('page');
  // If not every user of this machine may see everything, an operator has to ask for it.
  const isForAll = policy === undefined && 'host' in listen;
  const tls = tlsOf(flags, command);
  if (tls === undefined && 'host' in listen && !isLoopback(listen.host)) {
    command.error(
      `error: ${listen.host} is not loopback; without TLS only 127.0.0.0/8, ::1 and localhost are served: ` +
        'add --tls-cert, --tls-key and --tls-ca',
    );
  }
  if (policy !== undefined && tls === undefined) {
    command.error('error: --policy needs --tls-cert, --tls-key and --tls-ca: without them callers have no names');
  }
  if (policy !== undefined && 'unixSocket' in listen) {
    command.error('error: --policy is for HOST:PORT: on a unix socket callers have no certificates');
  }
  return {
    listen,
    tls,
    policyFile: policy,
    page: isForAll || page?.isAsked === true ? page : undefined,
    metrics: sideline('metrics'),
    traces: tracesIn(process.env),
    logLevel: flags.logLevel,
    drainMs: flags.drainSeconds * 1000,
    callers: callerLimitsOf(flags),
  };
}

function tlsOf({ tlsCert, tlsKey, tlsCa }: ServingFlags, command: Command): TlsFiles | undefined {
  if (tlsCert === undefined && tlsKey === undefined && tlsCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined || tlsCa === undefined) {
    command.error('error: give --tls-cert, --tls-key and --tls-ca together');
  }
  return { certificateFile: tlsCert, privateKeyFile: tlsKey, caFile: tlsCa };
}

export interface HostFlags {
  readonly qmp: readonly { readonly name: string; readonly socketPath: string }[];
  readonly qmpDir?: string;
  readonly qmpPattern?: string;
  readonly stateDir: string;
  readonly adoptJobsOf: readonly string[];
  readonly allowDestination: readonly AllowedDestination[];
  readonly allowLibvirtManaged?: boolean;
  readonly configOwner: keyof typeof CONFIG_OWNERS;
  readonly maxJobs: number;
  readonly maxWatchers: number;
  readonly keepDays: number;
  readonly keepJobs: number;
  readonly keepLeftovers: number;
  readonly hostName: string;
}

const CONFIG_OWNERS = { none: 'NONE', external: 'EXTERNAL' } as const;

export function addHost(command: Command): Command {
  return command
    .addOption(
      new Option('--qmp <name=socket>', 'the QMP socket of a VM, under a name of your choice (repeatable)')
        .argParser(collect(parseNamed))
        .default([], 'none'),
    )
    .option('--qmp-dir <folder>', 'a folder of QMP sockets, one per VM; they may come and go')
    .option(
      '--qmp-pattern <pattern>',
      'the sockets of --qmp-dir to use, by their names: * stands for any text, for example *.qmp',
      parsePattern,
    )
    .option('--state-dir <folder>', 'the folder for the journals of jobs', '/var/lib/blockjobd')
    .addOption(
      new Option(
        '--adopt-jobs-of <digits>',
        'take up jobs whose state folder is lost for good: the six digits after bj in their ids (repeatable)',
      )
        .argParser(collect(parseOwner))
        .default([], 'none'),
    )
    .addOption(
      new Option(
        '--allow-destination <place>',
        'copies may go below this FOLDER, or to nbd://HOST[:PORT]; nbd://* allows all NBD servers (repeatable)',
      )
        .argParser(collect(parseAllowed))
        .default([], 'none: every copy is refused'),
    )
    .option('--allow-libvirt-managed', 'also start jobs on VMs of libvirt, which then does not know their images')
    .addOption(
      new Option(
        '--config-owner <owner>',
        'whether another program keeps the configurations of the VMs: with external, a pivot needs its record, unless ' +
          'the request for the job says otherwise',
      )
        .choices(Object.keys(CONFIG_OWNERS))
        .default('none'),
    )
    .option('--max-jobs <number>', 'how many jobs may run at the same time', parseCount, 100)
    .option('--max-watchers <number>', 'how many clients may watch one job', parseCount, 100)
    .option(
      '--keep-days <days>',
      "how long ended jobs are remembered, in days of the host's uptime; at least one day",
      parseCount,
      30,
    )
    .option(
      '--keep-jobs <number>',
      'how many ended jobs are remembered, besides those of the last day',
      parseCount,
      1000,
    )
    .option(
      '--keep-leftovers <number>',
      'how many ended jobs with possible leftovers are remembered, however old; at least one',
      parseCount,
      1000,
    )
    .option('--host-name <name>', "this machine's name in Job.host", parseHostName, hostname());
}

export function hostOf(flags: HostFlags, command: Command): HostConfig {
  if (flags.qmp.length === 0 && flags.qmpDir === undefined) {
    command.error('error: name at least one VM: --qmp NAME=SOCKET, or --qmp-dir FOLDER');
  }
  if (flags.qmpPattern !== undefined && flags.qmpDir === undefined)
    command.error('error: --qmp-pattern needs --qmp-dir');
  return {
    host: flags.hostName,
    qmpFolder: flags.qmpDir === undefined ? undefined : resolve(flags.qmpDir),
    qmpPattern: flags.qmpPattern,
    qmpNamed: flags.qmp,
    stateFolder: resolve(flags.stateDir),
    adopts: flags.adoptJobsOf,
    allowed: {
      folders: flags.allowDestination.flatMap((place) => ('folder' in place ? place.folder : [])),
      nbdServers: flags.allowDestination.flatMap((place) => ('host' in place ? place : [])),
    },
    allowManaged: flags.allowLibvirtManaged === true,
    configOwner: CONFIG_OWNERS[flags.configOwner],
    limits: {
      jobs: flags.maxJobs,
      watchersPerJob: flags.maxWatchers,
      keep: { days: flags.keepDays, jobs: flags.keepJobs, leftovers: flags.keepLeftovers },
    },
  };
}
