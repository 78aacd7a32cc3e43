/** The directory: who is where, as gateways see it; and who may act, as agents do. */
import type { Wake } from '../../lib/wake.ts';

/** An agent that says it is there. */
export interface Host {
  readonly name: string;
  /** Where its agent answers: HOST:PORT. */
  readonly address: string;
  /** The name in its certificate: a SPIFFE id or a DNS name. Empty: the address's. */
  readonly identity: string;
  readonly version: string;
  /** Of the agent's state folder: stays when the agent is started again. Empty in a static directory. */
  readonly instance: string;
}

/** A domain, and the host that owns it. */
export interface HostedDomain {
  /** Its UUID; of one without, HOST/NAME. */
  readonly id: string;
  readonly name: string;
  readonly host: string;
  /** Counts up with every change of owner: who comes with an older one has not heard. 0 in a static directory. */
  readonly epoch: bigint;
}

export type Found =
  /** `host` undefined: its owner is not there; it may be down, or its agent is. */
  | { readonly is: 'one'; readonly domain: HostedDomain; readonly host: Host | undefined }
  /** A name that several domains have. */
  | { readonly is: 'several'; readonly domains: readonly HostedDomain[] }
  | { readonly is: 'none' };

/** Not live: all answers are as of `forMs` ago, and "none" and "not there" are no proof. */
export type Freshness =
  | { readonly live: true }
  | { readonly live: false; readonly forMs: number; readonly why: string };

export interface LookOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Is a domain of this name there for who asks? */
export type Seeing = (name: string) => boolean;

/** What a gateway asks. All but ready() and lookAgain() answer at once, from memory, whether or not it is live. */
export interface Directory extends AsyncDisposable {
  /** Resolves when everything has been read once; before that nothing is known. Rejects with the signal's reason. */
  ready(signal?: AbortSignal): Promise<void>;
  readonly freshness: Freshness;
  /** Notified when anything may have changed, freshness too. */
  readonly changes: Wake;
  host(name: string): Host | undefined;
  /** By name. */
  hosts(): readonly Host[];
  domains(): Iterable<HostedDomain>;
  /** By UUID, in any case, or by name: of those that are seen, which is all unless told. */
  find(domain: string, sees?: Seeing): Found;
  /** Asks past the memory: for when a host says that a domain is not its own. Rejects when there is no answer. */
  lookAgain(domain: string, options: LookOptions & { readonly sees?: Seeing }): Promise<Found>;
}

/** A domain that runs here: not one that migrates in, nor one that has migrated away. */
export interface LocalDomain {
  /** As domainId() gives it. */
  readonly id: string;
  readonly name: string;
}

export type Verdict =
  /** `by` lease: the directory does not answer, but nobody can have taken the domain yet without our seeing it. */
  | { readonly may: true; readonly epoch: bigint; readonly by: 'directory' | 'lease' }
  /** It is another's, or nobody's any more (`owner` undefined). Ask the directory again. */
  | { readonly may: false; readonly why: 'not-owner'; readonly owner: string | undefined }
  /** It is ours, but the caller has heard of it at another epoch. */
  | { readonly may: false; readonly why: 'other-epoch'; readonly epoch: bigint }
  /** Nobody can say now. Try again. */
  | { readonly may: false; readonly why: 'not-known'; readonly text: string };

/** How this host stands. */
export type Standing =
  | { readonly is: 'joining'; readonly why: string }
  | { readonly is: 'member' }
  /** Another agent has this host's name: nothing may be changed here until it has gone. */
  | { readonly is: 'refused'; readonly why: HostNameTaken };

/** What an agent says, and learns. */
export interface Membership extends AsyncDisposable {
  /** Resolves when this host is a member. Rejects with HostNameTaken, or with the signal's reason. */
  join(signal?: AbortSignal): Promise<void>;
  readonly standing: Standing;
  /** Notified when standing, or what we own, may have changed. */
  readonly changes: Wake;
  /**
   * Those that are known to run here now. They are claimed as soon as may be. Once they were `complete`, that is nothing
   * else may run here, what was said before, by an agent before this one too, and is not repeated is given up.
   */
  advertise(domains: readonly LocalDomain[], options: { readonly complete: boolean }): void;
  /**
   * A domain that will be advertised was seen to go from "migrates in" to "runs": it is taken from its owner. Nothing
   * else takes a domain from a host that is there.
   */
  arrived(id: string): void;
  /** The last that we know, without asking. */
  owns(id: string): boolean;
  /** Ask right before each change. `epoch`: that which the caller has heard of. */
  mayAct(id: string, options: LookOptions & { readonly epoch?: bigint | undefined }): Promise<Verdict>;
}

/** The agent must not start, or not go on: it would be a second one under this name. */
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

/** What a domain is known by in the fleet. QEMU without -uuid says that it is all zeros: no two hosts share that one. */
export function domainId(uuid: string, name: string, host: string): string {
  return NO_UUID.test(uuid) ? `${host}/${name}` : uuid.toLowerCase();
}
