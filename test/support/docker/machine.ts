/** One machine of a fleet under test: a container, its commands, and its faults. */
import type { ContainerInspectInfo } from 'dockerode';
import { type ContainerRuntimeClient, GenericContainer, type StartedNetwork, Wait } from 'testcontainers';
import { run } from '../real-qemu/qemu.ts';
import type { Pair } from '../service/certificates.ts';
import { LABELS } from './belongings.ts';
import { docker } from './images.ts';

/** The folder of each machine's certificate. */
const TLS = '/tls';
export const TLS_FILES = { cert: `${TLS}/cert.pem`, key: `${TLS}/key.pem`, ca: `${TLS}/ca.pem` };

export interface ContainerOptions {
  readonly client: ContainerRuntimeClient;
  readonly name: string;
  readonly image: string;
  /** Ports are published in the first network; all networks know the machine by its name. */
  readonly networks: readonly StartedNetwork[];
  readonly certificates: Pair & { readonly caFile: string };
  readonly command: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly content?: readonly { readonly content: string; readonly target: string }[];
  /** A volume that several machines share, and its folder. */
  readonly shared?: { readonly volume: string; readonly folder: string };
  /** Ports that are published on 127.0.0.1. */
  readonly ports?: readonly number[];
  /** The line that it prints when it is ready. */
  readonly says: RegExp;
}

const ON_LOOPBACK = { HostIp: '127.0.0.1', HostPort: '' };

/** A container that is in all of its networks before it starts. */
class InNetworks extends GenericContainer {
  readonly #options: ContainerOptions;

  constructor(options: ContainerOptions) {
    super(options.image);
    this.#options = options;
    // A name that is gone from a network is not looked for outside of it, nor for long.
    this.hostConfig.Dns = ['127.0.0.1'];
    this.hostConfig.DnsOptions = ['timeout:1', 'attempts:1'];
  }

  protected override async beforeContainerCreated(): Promise<void> {
    const { ports = [] } = this.#options;
    this.hostConfig.PortBindings = Object.fromEntries(ports.map((port) => [`${port}/tcp`, [ON_LOOPBACK]]));
  }

  protected override async containerCreated(id: string): Promise<void> {
    const { client, networks, name } = this.#options;
    for (const network of networks.slice(1)) await join(client, network, id, name);
  }
}

export class ContainerMachine {
  readonly name: string;
  readonly id: string;
  readonly #client: ContainerRuntimeClient;

  private constructor(name: string, id: string, client: ContainerRuntimeClient) {
    this.name = name;
    this.id = id;
    this.#client = client;
  }

  static async start(options: ContainerOptions): Promise<ContainerMachine> {
    const { client, name, networks, certificates, command, says } = options;
    const [first] = networks;
    if (first === undefined) throw new Error(`${name} is in no network`);
    const container = new InNetworks(options)
      .withLabels(LABELS)
      .withNetwork(first)
      .withNetworkAliases(name)
      .withHostname(name)
      .withAddedCapabilities('NET_ADMIN')
      .withCommand([...command])
      .withEnvironment({ ...options.environment })
      .withCopyContentToContainer([...(options.content ?? [])])
      .withCopyFilesToContainer([
        { source: certificates.certificateFile, target: TLS_FILES.cert },
        { source: certificates.privateKeyFile, target: TLS_FILES.key },
        { source: certificates.caFile, target: TLS_FILES.ca },
      ])
      .withWaitStrategy(Wait.forLogMessage(says))
      .withStartupTimeout(180_000)
      .withExposedPorts(...(options.ports ?? []));
    const { shared } = options;
    if (shared !== undefined) container.withBindMounts([{ source: shared.volume, target: shared.folder }]);
    if (options.entrypoint !== undefined) container.withEntrypoint([...options.entrypoint]);
    const started = await container.start();
    return new ContainerMachine(name, started.getId(), client);
  }

  /** The output of a command in it; its failure is an error, with all its output. */
  async exec(...command: readonly string[]): Promise<string> {
    return await docker('exec', this.id, ...command);
  }

  /** As by a power cut. */
  async kill(): Promise<void> {
    await docker('kill', this.id);
  }

  /** Starts it again with its disk. Its published port is then another one. */
  async start(): Promise<void> {
    await docker('start', this.id);
  }

  /** Resolves when its program has ended, with the exit status. */
  async ended(): Promise<number> {
    return Number(await docker('wait', this.id));
  }

  async logs(): Promise<string> {
    const { stdout, stderr } = await run('docker', ['logs', this.id]);
    return stdout + stderr;
  }

  /** The port of 127.0.0.1 at which one of its own ports is published. */
  async port(port: number): Promise<number> {
    const info = await this.#inspect();
    const [binding] = info.NetworkSettings.Ports[`${port}/tcp`] ?? [];
    if (binding === undefined) throw new Error(`${this.name} publishes no port ${port}`);
    return Number(binding.HostPort);
  }

  /** As if the cable were pulled: connections to it fail, or get no answer. */
  async leave(network: StartedNetwork): Promise<void> {
    await this.#client.network.getById(network.getId()).disconnect({ Container: this.id, Force: true });
  }

  async join(network: StartedNetwork): Promise<void> {
    await join(this.#client, network, this.id, this.name);
  }

  /** Packets to and from it in that network vanish, without any error. */
  async drop(network: StartedNetwork): Promise<void> {
    await this.#firewall('-I', network);
  }

  async undrop(network: StartedNetwork): Promise<void> {
    await this.#firewall('-D', network);
  }

  async #firewall(change: '-I' | '-D', network: StartedNetwork): Promise<void> {
    const info = await this.#inspect();
    const there = info.NetworkSettings.Networks[network.getName()];
    if (there === undefined) throw new Error(`${this.name} is not in that network`);
    const subnet = `${there.IPAddress}/${there.IPPrefixLen}`;
    await this.exec('iptables', change, 'INPUT', '-s', subnet, '-j', 'DROP');
    await this.exec('iptables', change, 'OUTPUT', '-d', subnet, '-j', 'DROP');
  }

  async #inspect(): Promise<ContainerInspectInfo> {
    return await this.#client.container.getById(this.id).inspect();
  }
}

async function join(client: ContainerRuntimeClient, network: StartedNetwork, id: string, name: string): Promise<void> {
  const EndpointConfig = { Aliases: [name] };
  await client.network.getById(network.getId()).connect({ Container: id, EndpointConfig });
}
