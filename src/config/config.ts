/** What a mode is told: read from the command line, with nothing left to be checked. */
import type { CallerLimits, Limits } from '../core/limits.ts';
import type { Address, Port } from '../lib/address.ts';
import type { TlsFiles } from '../lib/tls-files.ts';
import type { TracesConfig } from './environment.ts';

/** A port beside the one for callers. */
export interface Sideline extends Port {
  /** It is on the command line: without it there is no start. */
  readonly isAsked: boolean;
}

/** How callers are served. */
export interface ServingConfig {
  readonly listen: Address;
  /** Undefined: plaintext, on loopback or a unix socket. */
  readonly tls: TlsFiles | undefined;
  /** Undefined: whoever can connect may do everything. */
  readonly policyFile: string | undefined;
  /** Where the page is served; undefined: it is not. */
  readonly page: Sideline | undefined;
  readonly logLevel: string;
  /** Where Prometheus asks; undefined: nowhere. */
  readonly metrics: Sideline | undefined;
  /** Undefined: none. */
  readonly traces: TracesConfig | undefined;
  readonly drainMs: number;
  /** How much callers may use up. */
  readonly callers: CallerLimits;
}

/** The QEMUs of one machine, and what may be done with them. */
export interface HostConfig {
  readonly host: string;
  readonly qmpFolder: string | undefined;
  /** Which of the folder's sockets; undefined: all. */
  readonly qmpPattern: string | undefined;
  readonly qmpNamed: readonly { readonly name: string; readonly socketPath: string }[];
  readonly stateFolder: string;
  /** Whose jobs are taken up beside those of the folder itself: their state folders are lost. */
  readonly adopts: readonly string[];
  /** Where copies may go. */
  readonly allowed: {
    readonly folders: readonly string[];
    readonly nbdServers: readonly { readonly host: string; readonly port: number | undefined }[];
  };
  /** Jobs may be started on VMs of libvirt, too. */
  readonly allowManaged: boolean;
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
  /** Gateways that are believed about their callers, as their certificates name them. */
  readonly gateways: readonly string[];
  /** Undefined: a static site, whose gateways have a file of the hosts. */
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
