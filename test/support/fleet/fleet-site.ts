/**
 * A fleet of real processes: an etcd, agents with a QEMU each, gateways, and callers with certificates of their own.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import { eventually, monitorIn, present } from '../checks.ts';
import { type ChainImage, makeChain, type Qemu, startQemu, testDir } from '../real-qemu/qemu.ts';
import { Caller } from '../service/caller.ts';
import { Authority, type Pair } from '../service/certificates.ts';
import { Service, type ServiceOptions } from '../service/service.ts';
import { EtcdServer, freePort } from './etcd.ts';

const MIB = 1 << 20;
export const TTL_SECONDS = 10;

export interface FleetHost {
  readonly name: string;
  readonly qemu: Qemu;
  /** The name of its one domain, `vm-NAME`, with a disk `vd0`. */
  readonly domain: string;
  readonly chain: readonly ChainImage[];
  readonly port: number;
  agent: Service;
}

/** The program that is started, and the command that starts it, for example with bounded memory. */
interface Started extends Pick<ServiceOptions, 'program' | 'under'> {
  readonly env?: Readonly<Record<string, string>>;
  readonly servesMs?: number;
}

interface HostOptions extends Started {
  readonly images?: readonly ChainImage[];
}

export class FleetSite implements AsyncDisposable {
  readonly dir: string;
  readonly authority: Authority;
  readonly etcd: EtcdServer;
  readonly hosts = new Map<string, FleetHost>();
  readonly #opened: AsyncDisposableStack;
  #policies = 0;
  #callers = 0;

  private constructor(dir: string, authority: Authority, etcd: EtcdServer, opened: AsyncDisposableStack) {
    this.dir = dir;
    this.authority = authority;
    this.etcd = etcd;
    this.#opened = opened;
  }

  static async open(): Promise<FleetSite> {
    await using opened = new AsyncDisposableStack();
    const { path: dir } = opened.use(await testDir());
    const authority = await Authority.make(dir);
    const etcd = opened.use(await EtcdServer.start({ dir: join(dir, 'etcd') }));
    return new FleetSite(dir, authority, etcd, opened.move());
  }

  /** A host with its QEMU and its agent; `images`: those of more disks, `vd1` and so on. */
  async host(name: string, { images = [], ...started }: HostOptions = {}): Promise<FleetHost> {
    const domain = `vm-${name}`;
    const chain = await makeChain(this.dir, { prefix: name, formats: ['qcow2', 'qcow2'], sizeBytes: 8 * MIB });
    const more = images.map((image, at) => ({ id: `vd${at + 1}`, bus: 'virtio-blk', chain: [image] }) as const);
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }, ...more] as const;
    const sockets = this.#sockets(name);
    await mkdir(sockets);
    const extraArgs = monitorIn(sockets, domain);
    const qemu = this.#opened.use(await startQemu({ style: 'blockdev', name: domain, disks, extraArgs }));
    const port = await freePort();
    const agent = await this.startAgent(name, port, [], started);
    const host = { name, qemu, domain, chain, port, agent };
    this.hosts.set(name, host);
    this.#opened.defer(async () => await host.agent.kill());
    return host;
  }

  /** Live migration of a host's domain to another host. */
  async migrate({ qemu, domain, chain }: FleetHost, to: FleetHost): Promise<void> {
    const uri = `unix:${join(this.dir, 'migration.sock')}`;
    const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
    const extraArgs = [...monitorIn(this.#sockets(to.name), domain), '-incoming', uri];
    const target = await startQemu({ style: 'blockdev', name: domain, uuid: qemu.uuid, disks, extraArgs });
    this.#opened.use(target);
    await to.agent.domainUp(domain);
    await qemu.admin.execute('migrate', { uri });
    await eventually('it runs there', async () => {
      const { status } = await target.admin.execute<{ status: string }>('query-status');
      return status === 'running' ? true : undefined;
    });
  }

  /** Starts it again with the same state folder, as a service manager would. */
  async restartAgent(host: FleetHost): Promise<void> {
    host.agent = await this.startAgent(host.name, host.port);
  }

  async startAgent(name: string, port: number, more: readonly string[] = [], started: Started = {}): Promise<Service> {
    const pair = await this.authority.sign(`agent-${name}`, { uri: `spiffe://site/agent/${name}` });
    const args = ['agent', '--host-name', name, '--listen', `127.0.0.1:${port}`, '--advertise', `localhost:${port}`];
    args.push('--qmp-dir', this.#sockets(name), '--state-dir', join(this.dir, `state-${name}`));
    args.push('--allow-destination', this.dir, '--gateway', 'spiffe://site/gateway/g1');
    args.push('--gateway', 'spiffe://site/gateway/g2', '--etcd', this.etcd.url, '--ttl-seconds', String(TTL_SECONDS));
    const channel = await this.channel('spiffe://site/gateway/g1');
    const reach = { address: `localhost:${port}`, channel, ...started };
    return await Service.run([...args, ...this.#tls(pair), ...more], reach);
  }

  /** The client of `run()` is the operator `spiffe://site/ops`, who may do everything. */
  async gateway(name: string, policyFile: string, started: Started = {}): Promise<Service> {
    const pair = await this.authority.sign(`gateway-${name}`, { uri: `spiffe://site/gateway/${name}` });
    const port = await freePort();
    const args = ['gateway', '--listen', `127.0.0.1:${port}`, '--etcd', this.etcd.url, '--policy', policyFile];
    const reach = { address: `localhost:${port}`, channel: await this.channel('spiffe://site/ops'), ...started };
    const gateway = await Service.run([...args, ...this.#tls(pair)], reach);
    this.#opened.defer(async () => await gateway.kill());
    return gateway;
  }

  /** A file of its own. */
  async policy(callers: object): Promise<string> {
    const path = join(this.dir, `policy-${(this.#policies += 1)}.json`);
    await writeFile(path, JSON.stringify({ callers }));
    return path;
  }

  /** A caller with a certificate of this name. */
  async caller(address: string, uri: string): Promise<Caller> {
    const caller = new Caller(address, await this.channel(uri));
    this.#opened.defer(() => caller.close());
    return caller;
  }

  async channel(uri: string, by: Authority = this.authority): Promise<ChannelCredentials> {
    const pair = await by.sign(`caller-${(this.#callers += 1)}`, { uri });
    return await this.channelOf(pair);
  }

  async channelOf({ privateKeyFile, certificateFile }: Pair): Promise<ChannelCredentials> {
    const [ca, key, certificate] = await Promise.all(
      [this.authority.caFile, privateKeyFile, certificateFile].map(async (file) => await readFile(file)),
    );
    return credentials.createSsl(present(ca), present(key), present(certificate));
  }

  #sockets(host: string): string {
    return join(this.dir, `qmp-${host}`);
  }

  #tls({ certificateFile, privateKeyFile }: Pair): string[] {
    return ['--tls-cert', certificateFile, '--tls-key', privateKeyFile, '--tls-ca', this.authority.caFile];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
  }
}
