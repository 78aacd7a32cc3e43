/**
 * A fleet on machines of its own: etcd, two gateways, and three hosts with two QEMUs each. All with TLS.
 *
 *   the tests ──front──► g1, g2 ──hosts──► h1, h2, h3 ◄──back── the tests
 *                          └──reading──► etcd ◄──owning──┘
 *
 * `front` and `back` lead to ports of 127.0.0.1; the others lead nowhere else. Everything is removed with the site. The
 * next test run removes the leftovers of a killed one.
 */
import { getContainerRuntimeClient, type StartedNetwork } from 'testcontainers';
import { whenMade } from '../meanwhile.ts';
import { testDir } from '../real-qemu/qemu.ts';
import { Authority, type Pair } from '../service/certificates.ts';
import { makeNetwork, makeVolume, removeAll } from './belongings.ts';
import { eventuallyAnswers } from './eventually-answers.ts';
import { Host } from './host.ts';
import { docker, type Images } from './images.ts';
import { ContainerMachine } from './machine.ts';
import { Observer } from './observer.ts';
import * as roles from './roles.ts';
import { SiteCaller, tlsOf } from './site-caller.ts';

const START_MS = 60_000;

interface Networks {
  readonly front: StartedNetwork;
  readonly back: StartedNetwork;
  readonly hosts: StartedNetwork;
  readonly reading: StartedNetwork;
  readonly owning: StartedNetwork;
}

interface Parts {
  readonly networks: Networks;
  /** The site trusts its certificates. */
  readonly authority: Authority;
  readonly operator: Pair;
  readonly inspector: Pair;
  readonly etcd: ContainerMachine;
  readonly observer: Observer;
  readonly gateways: readonly [ContainerMachine, ContainerMachine];
  readonly hosts: readonly [Host, Host, Host];
  /** Adds a machine with the gateways' image. */
  readonly add: (kind: string, name: string, on: StartedNetwork[], role: roles.Role) => Promise<ContainerMachine>;
}

export interface SiteOptions {
  /** More options of etcd's command line. */
  readonly etcd?: readonly string[];
}

export class ContainerSite implements AsyncDisposable {
  readonly networks: Networks;
  readonly authority: Authority;
  readonly etcd: ContainerMachine;
  readonly observer: Observer;
  readonly gateways: readonly [ContainerMachine, ContainerMachine];
  readonly hosts: readonly [Host, Host, Host];
  readonly #operator: Pair;
  readonly #inspector: Pair;
  readonly #add: Parts['add'];
  readonly #made = new AsyncDisposableStack();

  private constructor(parts: Parts) {
    this.networks = parts.networks;
    this.authority = parts.authority;
    this.etcd = parts.etcd;
    this.observer = parts.observer;
    this.gateways = parts.gateways;
    this.hosts = parts.hosts;
    this.#operator = parts.operator;
    this.#inspector = parts.inspector;
    this.#add = parts.add;
  }

  /** Resolves when both gateways reach all VMs. */
  static async start({ etcd: etcdArgs = [] }: SiteOptions = {}): Promise<ContainerSite> {
    const named = (await whenMade('images')) as Images;
    const client = await getContainerRuntimeClient();
    await using made = new AsyncDisposableStack();
    made.defer(async () => await removeAll((pid) => pid === process.pid));
    const authority = await Authority.make(made.use(await testDir('bj-site-')).path);
    const networks = {
      front: await makeNetwork(client, { isInternal: false }),
      back: await makeNetwork(client, { isInternal: false }),
      hosts: await makeNetwork(client, { isInternal: true }),
      reading: await makeNetwork(client, { isInternal: true }),
      owning: await makeNetwork(client, { isInternal: true }),
    };
    const { front, back, hosts, reading, owning } = networks;
    const shared = { volume: await makeVolume(), folder: roles.SHARED };
    const start = async (image: string, kind: string, name: string, on: StartedNetwork[], role: roles.Role) => {
      const pair = await authority.sign(name, { dns: name, uri: roles.identityOf(kind, name) });
      const certificates = { ...pair, caFile: authority.caFile };
      return await ContainerMachine.start({ client, name, image, networks: on, certificates, ...role });
    };
    const host = async (index: 1 | 2 | 3) => {
      const name = `h${index}`;
      const vms = roles.vmsOf(index);
      const role = { ...roles.host(vms), shared };
      const machine = await start(named.host, 'agent', name, [back, hosts, owning], role);
      const one = new Host(machine, vms);
      await one.startAgent();
      return one;
    };
    const add: Parts['add'] = async (...more) => await start(named.gateway, ...more);
    const gateway = async (name: string) => await add('gateway', name, [front, hosts, reading], roles.gateway());

    const etcd = await start(named.etcd, 'etcd', 'etcd', [owning, reading], roles.etcd(etcdArgs));
    const observer = await start(named.etcd, 'observer', 'observer', [reading], roles.observer());
    const startedHosts = [host(1), host(2), host(3)] as const;
    const startedGateways = [gateway('g1'), gateway('g2')] as const;
    // Also when one fails: objects that the others still make must exist to be removed.
    await Promise.allSettled([...startedHosts, ...startedGateways]);
    const site = new ContainerSite({
      networks,
      authority,
      operator: await authority.sign('operator', { uri: roles.OPERATOR }),
      inspector: await authority.sign('inspector', { uri: roles.identityOf('gateway', 'inspector') }),
      etcd,
      observer: new Observer(observer),
      hosts: await Promise.all(startedHosts),
      gateways: await Promise.all(startedGateways),
      add,
    });
    await site.isWhole();
    site.#made.use(made.move());
    return site;
  }

  /** A caller of a gateway, or directly of an agent, with the operator's certificate unless another one is given. */
  async caller(to: ContainerMachine, tls = this.credentials(this.#operator)): Promise<SiteCaller> {
    return new SiteCaller(to.name, await to.port(roles.PORT), tls);
  }

  /** A machine of the operator, which reaches gateways alone: its one program copies a disk and pivots. */
  async client(vm: string, file: string): Promise<ContainerMachine> {
    return await this.#add('client', 'operator', [this.networks.front], roles.client(vm, file));
  }

  /** A caller of an agent, which trusts this caller as a gateway. */
  async agent({ machine }: Host): Promise<SiteCaller> {
    return await this.caller(machine, this.credentials(this.#inspector));
  }

  /** Undefined for no certificate. */
  credentials(pair: Pair | undefined) {
    return tlsOf(this.authority.caFile, pair);
  }

  /** Resolves when each gateway reaches each VM. */
  async isWhole(timeoutMs = START_MS): Promise<void> {
    for (const gateway of this.gateways) {
      using caller = await this.caller(gateway);
      await eventuallyAnswers(`gateway ${gateway.name} reaches all VMs`, timeoutMs, async () => {
        const { domains, unreachableHosts } = await caller.allDomains();
        const up = domains.filter(({ error }) => error === undefined);
        return (unreachableHosts.length === 0 && up.length === 6) || undefined;
      });
    }
  }

  /** The logs of all machines, for the reader of a failure. */
  async logs(): Promise<string> {
    const machines = [this.etcd, ...this.gateways].map(async ({ name, id }) => {
      return `---- ${name}\n${await docker('logs', '--tail', '40', id).catch(String)}`;
    });
    const agents = this.hosts.map(async (host) => `---- ${host.name}\n${await host.logs().catch(String)}`);
    return (await Promise.all([...machines, ...agents])).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#made.disposeAsync();
  }
}
