/** The client of the configured etcd. */
import { readFileSync } from 'node:fs';
import type { EtcdConfig } from '../config/config.ts';
import { Etcd } from '../fleet/etcd/client.ts';

export function openEtcd({ endpoints, caFile, identity, login }: EtcdConfig): Etcd {
  return new Etcd({
    endpoints,
    tls: caFile === undefined ? undefined : { caFile, identity },
    login: login && { name: login.name, password: readFileSync(login.passwordFile, 'utf8').trimEnd() },
  });
}
