/** The options for the directory. */
import { type Command, Option } from 'commander';
import type { EtcdConfig } from './config.ts';
import { collect, parseFile } from './values.ts';

export interface EtcdFlags {
  readonly etcd: readonly string[];
  readonly etcdCa?: string;
  readonly etcdCert?: string;
  readonly etcdKey?: string;
  readonly etcdUser?: string;
  readonly etcdPasswordFile?: string;
}

export function addEtcd(command: Command): Command {
  return command
    .addOption(
      new Option('--etcd <url>', 'a member of the etcd with the directory, for example https://etcd1:2379 (repeatable)')
        .argParser(collect((text) => text))
        .default([], 'none'),
    )
    .option('--etcd-ca <file>', "the authorities of etcd's certificate", parseFile)
    .option('--etcd-cert <file>', 'the certificate of this service for etcd', parseFile)
    .option('--etcd-key <file>', 'the key of that certificate', parseFile)
    .option('--etcd-user <name>', 'the name of this service in etcd, if etcd asks for a password')
    .option('--etcd-password-file <file>', 'the file with the password', parseFile);
}

/** Undefined without --etcd. */
export function etcdOf(flags: EtcdFlags, command: Command): EtcdConfig | undefined {
  const { etcd, etcdCa, etcdCert, etcdKey, etcdUser, etcdPasswordFile } = flags;
  if (etcd.length === 0) return undefined;
  if ((etcdCert === undefined) !== (etcdKey === undefined))
    command.error('error: give --etcd-cert and --etcd-key together');
  if ((etcdUser === undefined) !== (etcdPasswordFile === undefined)) {
    command.error('error: give --etcd-user and --etcd-password-file together');
  }
  return {
    endpoints: etcd,
    caFile: etcdCa,
    identity:
      etcdCert === undefined || etcdKey === undefined
        ? undefined
        : { certificateFile: etcdCert, privateKeyFile: etcdKey },
    login:
      etcdUser === undefined || etcdPasswordFile === undefined
        ? undefined
        : { name: etcdUser, passwordFile: etcdPasswordFile },
  };
}
