/** The configuration of a mode, read from the command line and completely checked. */
import type { ConfigOwner } from '../core/job-options.ts';
import type { CallerLimits, Limits } from '../core/limits.ts';
import type { Address, Port } from '../lib/address.ts';
import type { TlsFiles } from '../lib/tls-files.ts';
import type { TracesConfig } from './environment.ts';

/** A port besides the one for callers. */
export interface Sideline extends Port {
  /** Whether it is on the command line: then the service does not start without it. */
  readonly isAsked: boolean;
}

/** How callers are served. */
export interface ServingConfig {
  readonly listen: Address;
  /** Undefined for plaintext, on loopback or a unix socket. */
  readonly tls: TlsFiles | undefined;
  /** Undefined if every connected client may do everything. */
  readonly policyFile: string | undefined;
  /** The address of the page; undefined if there is none. */
  readonly page: Sideline | undefined;
  readonly logLevel: string;
  /** The address for Prometheus; undefined if there is none. */
  readonly metrics: Sideline | undefined;
  /** Undefined if there are none. */
  readonly traces: TracesConfig | undefined;
  readonly drainMs: number;
  /** How much callers may use. */
  readonly callers: CallerLimits;
}

/** The QEMUs of one machine, and the allowed operations on them. */
export interface HostConfig {
  readonly host: string;
  readonly qmpFolder: string | undefined;
  /** The sockets of the folder to use; undefined for all. */
  readonly qmpPattern: string | undefined;
  readonly qmpNamed: readonly { readonly name: string; readonly socketPath: string }[];
  readonly stateFolder: string;
  /** The owners whose jobs are taken up besides those of the folder itself: their state folders are lost. */
  readonly adopts: readonly string[];
  /** The allowed destinations. */
  readonly allowed: {
    readonly folders: readonly string[];
    readonly nbdServers: readonly { readonly host: string; readonly port: number | undefined }[];
  };
  /** Whether jobs may also be started on VMs of libvirt. */
  readonly allowManaged: boolean;
  readonly configOwner: ConfigOwner;
  readonly limits: Limits;
}

export interface EtcdConfig {
  readonly endpoints: readonly string[];
  readonly caFile: string | undefined;
  readonly identity: { readonly certificateFile: string; readonly privateKeyFile: string } | undefined;
  readonly login: { readonly name: string; readonly passwordFile: string } | undefined;
}

export interface EmbeddedConfig extends ServingConfig, HostConfig {
  readonly mode: 'embedded';
}

export interface AgentConfig extends ServingConfig, HostConfig {
  readonly mode: 'agent';
  /** Gateways whose statements about their callers are trusted, by the names in their certificates. */
  readonly gateways: readonly string[];
  /** Undefined for a static site, whose gateways have a file of the hosts. */
  readonly membership:
    | { readonly etcd: EtcdConfig; readonly advertise: string; readonly ttlSeconds: number }
    | undefined;
}

export interface GatewayConfig extends ServingConfig {
  readonly mode: 'gateway';
  readonly directory: { readonly file: string } | { readonly etcd: EtcdConfig };
  readonly watchersPerJob: number;
}

export interface Modes {
  readonly embedded: (config: EmbeddedConfig) => Promise<void>;
  readonly agent: (config: AgentConfig) => Promise<void>;
  readonly gateway: (config: GatewayConfig) => Promise<void>;
}
