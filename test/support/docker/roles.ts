/** The role of each machine of a site: the program that it runs, and its command line. */
import { JobEvent_Kind } from '../../../generated/blockjob/v1/job.ts';
import type { Vm } from './host.ts';
import { type ContainerOptions, TLS_FILES } from './machine.ts';
import { WATCH } from './observer.ts';

/** An agent that was not heard for this time is not trusted any more. */
export const TTL_MS = 6000;
export const OPERATOR = 'spiffe://site/client/operator';
export const READER = 'spiffe://site/client/reader';
/** The same folder on all hosts. */
export const SHARED = '/var/lib/images/shared';
/** The address on which agents and gateways listen. */
export const PORT = 50051;

export type Role = Pick<ContainerOptions, 'command' | 'says'> & Partial<ContainerOptions>;

const ETCD_URL = 'https://etcd:2379';
/** Ports of a host's own loopback with a slow connection: to etcd, and to its agent. */
const SLOW_ETCD = 2379;
const SLOW_AGENT = 50052;
const POLICY = JSON.stringify({ callers: { [OPERATOR]: { operate: ['*'] }, [READER]: { read: ['*'] } } });
const SERVING = flags({
  listen: `0.0.0.0:${PORT}`,
  'tls-cert': TLS_FILES.cert,
  'tls-key': TLS_FILES.key,
  'tls-ca': TLS_FILES.ca,
  'etcd-ca': TLS_FILES.ca,
  'etcd-cert': TLS_FILES.cert,
  'etcd-key': TLS_FILES.key,
});
/** So etcd's own client finds it. */
const ETCDCTL = {
  ETCDCTL_ENDPOINTS: ETCD_URL,
  ETCDCTL_CACERT: TLS_FILES.ca,
  ETCDCTL_CERT: TLS_FILES.cert,
  ETCDCTL_KEY: TLS_FILES.key,
};
const ETCD = flags({
  name: 'one',
  'data-dir': '/var/lib/etcd',
  logger: 'zap',
  'log-outputs': 'stderr',
  'listen-client-urls': 'https://0.0.0.0:2379',
  'advertise-client-urls': ETCD_URL,
  'cert-file': TLS_FILES.cert,
  'key-file': TLS_FILES.key,
  'client-cert-auth': 'true',
  'trusted-ca-file': TLS_FILES.ca,
});

export function etcd(more: readonly string[]): Role {
  return { command: [...ETCD, ...more], environment: ETCDCTL, says: /serving client (?:requests|traffic)/ };
}

export function observer(): Role {
  return { entrypoint: ['sh', '-c', WATCH], command: [], environment: ETCDCTL, says: /watching/ };
}

export function gateway(): Role {
  return {
    command: [...SERVING, `--etcd=${ETCD_URL}`, '--policy=/policy.json'],
    content: [{ content: POLICY, target: '/policy.json' }],
    ports: [PORT],
    says: /blockjobd serves on/,
  };
}

/** Copies the disk of a VM and pivots; it counts as ready when it has seen that begin. */
export function client(vm: string, file: string): Role {
  return {
    entrypoint: ['node', '/opt/blockjobd/test/support/docker/machine/client.ts'],
    command: [vm, file],
    says: new RegExp(`"kind":${JobEvent_Kind.KIND_PROGRESS},`),
  };
}

export function host(vms: readonly Vm[]): Role {
  return { command: vms.map(({ name, uuid }) => `${name}=${uuid}`), ports: [PORT], says: /ready/ };
}

/** Two VMs whose names and UUIDs contain the host's number. */
export function vmsOf(index: number): readonly [Vm, Vm] {
  const vm = (letter: string): Vm => {
    return { name: `h${index}-${letter}`, uuid: `${index}0000000-0000-4000-8000-00000000000${letter}` };
  };
  return [vm('a'), vm('b')];
}

/** The command line of a host's agent. `slow`: through the connections of slowLines(), in both directions. */
export function agentOf(name: string, { slow = false } = {}): readonly string[] {
  const its = {
    'host-name': name,
    advertise: `${name}:${slow ? SLOW_AGENT : PORT}`,
    etcd: slow ? `https://127.0.0.1:${SLOW_ETCD}` : ETCD_URL,
    'ttl-seconds': String(TTL_MS / 1000),
  };
  const gateways = ['g1', 'g2', 'inspector'].map((one) => `--gateway=${identityOf('gateway', one)}`);
  return [...SERVING, ...flags(its), ...gateways, '--log-level=debug'];
}

/** For machine/slow.mjs. */
export function slowLines(): readonly string[] {
  return [`${SLOW_AGENT}=127.0.0.1:${PORT}`, `${SLOW_ETCD}=etcd:2379`];
}

export function identityOf(kind: string, name: string): string {
  return `spiffe://site/${kind}/${name}`;
}

function flags(all: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(all).map(([name, value]) => `--${name}=${value}`);
}
