/** The directory: the places of hosts and domains, for gateways; and the right to change a domain, for agents. */
import type { Wake } from '../../lib/wake.ts';

/** An agent that reports its presence. */
export interface Host {
  readonly name: string;
  /** The address of its agent: HOST:PORT. */
  readonly address: string;
  /** The name in its certificate: a SPIFFE id or a DNS name. Empty for the host of the address. */
  readonly identity: string;
  readonly version: string;
  /** The identity of the agent's state folder: stays over restarts. Empty in a static directory. */
  readonly instance: string;
}

/** A domain, and the host that owns it. */
export interface HostedDomain {
  /** Its UUID; HOST/NAME if it has none. */
  readonly id: string;
  readonly name: string;
  readonly host: string;
  /** Increases with every change of owner: a caller with an older one has missed a change. 0 in a static directory. */
  readonly epoch: bigint;
}

export type Found =
  /** `host` is undefined if its owner is absent: it may be down, or only its agent is. */
  | { readonly is: 'one'; readonly domain: HostedDomain; readonly host: Host | undefined }
  /** A name of several domains. */
  | { readonly is: 'several'; readonly domains: readonly HostedDomain[] }
  | { readonly is: 'none' };

/** Not live: all answers are `forMs` old, and absence is not proved. */
export type Freshness =
  | { readonly live: true }
  | { readonly live: false; readonly forMs: number; readonly why: string };

export interface LookOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Whether a domain with this name exists for the caller. */
export type Seeing = (name: string) => boolean;

export interface SearchOptions extends LookOptions {
  readonly sees?: Seeing;
}

/** The questions of a gateway. All but ready() and lookAgain() answer at once, from memory, whether or not it is live. */
export interface Directory extends AsyncDisposable {
  /** Resolves when everything has been read once; before that nothing is known. Rejects with the signal's reason. */
  ready(signal?: AbortSignal): Promise<void>;
  readonly freshness: Freshness;
  /** Notified when anything may have changed, including freshness. */
  readonly changes: Wake;
  host(name: string): Host | undefined;
  /** By name. The same list until a host joins, leaves or changes. */
  hosts(): readonly Host[];
  /** The names of the absent hosts that own domains, in order. The same list until they change. */
  missing(): readonly string[];
  domains(): Iterable<HostedDomain>;
  /** By UUID, in any case, or by name: out of the visible ones, by default all. */
  find(domain: string, sees?: Seeing): Found;
  /** Asks beyond the cache: if a host does not own a domain. Rejects if there is no answer. */
  lookAgain(domain: string, options: SearchOptions): Promise<Found>;
}

/** A running domain: not one that migrates in, nor one that has migrated away. */
export interface LocalDomain {
  /** In the form of domainId(). */
  readonly id: string;
  readonly name: string;
}

export type Verdict =
  /** `by` lease: the directory does not answer, but nobody can have taken the domain yet without our notice. */
  | { readonly may: true; readonly epoch: bigint; readonly by: 'directory' | 'lease' }
  /** It belongs to another host, or to nobody any more (`owner` undefined). Ask the directory again. */
  | { readonly may: false; readonly why: 'not-owner'; readonly owner: string | undefined }
  /** It is ours, but the caller has heard of it at another epoch. */
  | { readonly may: false; readonly why: 'other-epoch'; readonly epoch: bigint }
  /** It cannot be determined now. Try again. */
  | { readonly may: false; readonly why: 'not-known'; readonly text: string };

/** The standing of this host. */
export type Standing =
  | { readonly is: 'joining'; readonly why: string }
  | { readonly is: 'member' }
  /** Another agent has this host's name: nothing may be changed here until it has gone. */
  | { readonly is: 'refused'; readonly why: HostNameTaken };

/** The statements and questions of an agent. */
export interface Membership extends AsyncDisposable {
  /** Resolves when this host is a member. Rejects with HostNameTaken, or with the signal's reason. */
  join(signal?: AbortSignal): Promise<void>;
  readonly standing: Standing;
  /** Notified when the standing, or our domains, may have changed. */
  readonly changes: Wake;
  /**
   * The domains that are known to run here now. They are claimed as soon as possible. If they are `complete`, no other
   * domain runs here: earlier statements, also of an earlier agent, that are not repeated are given up.
   */
  advertise(domains: readonly LocalDomain[], options: { readonly complete: boolean }): void;
  /**
   * A domain that will be advertised was seen to go from "migrates in" to "runs": it is taken from its owner. Nothing
   * else takes a domain from a present host.
   */
  arrived(id: string): void;
  /** The last known state, without a question. */
  owns(id: string): boolean;
  /** Ask right before each change. `epoch`: the one that the caller has heard of. */
  mayAct(id: string, options: LookOptions & { readonly epoch?: bigint | undefined }): Promise<Verdict>;
}

/** The agent must not start, or continue: it would be a second one under this name. */
export class HostNameTaken extends Error {
  override readonly name = 'HostNameTaken';

  constructor(host: string, holder: Pick<Host, 'address' | 'instance'>) {
    super(
      `The host name ${host} is taken by the agent at ${holder.address} (instance ${holder.instance}); ` +
        'choose another --host-name, or end that agent',
    );
  }
}

const NO_UUID = /^[0-]*$/;

/** The id of a domain in the fleet. A QEMU without -uuid reports zeros: no two hosts may share those. */
export function domainId(uuid: string, name: string, host: string): string {
  return NO_UUID.test(uuid) ? `${host}/${name}` : uuid.toLowerCase();
}
