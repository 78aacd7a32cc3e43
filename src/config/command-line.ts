/** The command line → Config, with every error in plain words. The only reader of it and of the environment. */
import { Command, Option } from 'commander';
import { BUILD, VERSION } from '../lib/version.ts';
import type { Modes } from './config.ts';
import { addEtcd, type EtcdFlags, etcdOf } from './etcd-options.ts';
import { addHost, addServing, type HostFlags, hostOf, type ServingFlags, servingOf } from './options.ts';
import { collect, parseAdvertised, parseCount, parseFile, parseTtl } from './values.ts';

interface AgentFlags extends ServingFlags, HostFlags, EtcdFlags {
  readonly gateway: readonly string[];
  readonly advertise?: string;
  readonly ttlSeconds: number;
}

interface GatewayFlags extends ServingFlags, EtcdFlags {
  readonly hosts?: string;
  readonly maxWatchers: number;
}

/** All commands. Parsing runs the named one; or prints help, or an error, and exits. */
export function commandLine(modes: Modes): Command {
  const program = new Command('blockjobd')
    .description('Moves the disks of running QEMU virtual machines, with an outcome that you can trust.')
    .version(`blockjobd ${VERSION} (${BUILD})`)
    .showHelpAfterError('(blockjobd --help shows more)');

  addHost(addServing(program.command('serve')))
    .description('serve the VMs of this machine; on a single machine nothing else is needed')
    .action(async (flags: ServingFlags & HostFlags, command: Command) => {
      await modes.embedded({ mode: 'embedded', ...servingOf(flags, command), ...hostOf(flags, command) });
    });

  addEtcd(addHost(addServing(program.command('agent'), 'off')))
    .description('serve the VMs of this machine as a host of a fleet, to gateways')
    .addOption(
      new Option(
        '--gateway <name>',
        'a gateway whose statements about its callers are trusted, by the name in its certificate (repeatable)',
      )
        .argParser(collect((text) => text))
        .default([], 'none'),
    )
    .option(
      '--advertise <host:port>',
      'the address for gateways to reach this agent; required with --etcd',
      parseAdvertised,
    )
    .option('--ttl-seconds <seconds>', 'how long the directory keeps the entry of a silent agent', parseTtl, 15)
    .action(async (flags: AgentFlags, command: Command) => {
      const etcd = etcdOf(flags, command);
      const { advertise, ttlSeconds } = flags;
      if (etcd !== undefined && advertise === undefined) command.error('error: --etcd needs --advertise HOST:PORT');
      const membership = etcd === undefined || advertise === undefined ? undefined : { etcd, advertise, ttlSeconds };
      const config = { ...servingOf(flags, command), ...hostOf(flags, command) };
      await modes.agent({ mode: 'agent', ...config, gateways: flags.gateway, membership });
    });

  addEtcd(addServing(program.command('gateway')))
    .description('serve the VMs of a whole fleet; it has no state, and any number of them may run')
    .option('--hosts <file>', 'the hosts of a static site, instead of --etcd', parseFile)
    .option('--max-watchers <number>', 'how many clients may watch one job', parseCount, 100)
    .action(async (flags: GatewayFlags, command: Command) => {
      const etcd = etcdOf(flags, command);
      const { hosts, maxWatchers: watchersPerJob } = flags;
      if ((etcd === undefined) === (hosts === undefined)) command.error('error: give --etcd URL, or --hosts FILE');
      const directory = etcd === undefined ? { file: hosts ?? '' } : { etcd };
      await modes.gateway({ mode: 'gateway', ...servingOf(flags, command), directory, watchersPerJob });
    });

  return program;
}
