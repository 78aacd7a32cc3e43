/** The owner of a domain: the decisions, without the questions. Pure. */

export interface Owner {
  readonly host: string;
  readonly instance: string;
}

/** A domain as the directory has it. */
export interface RegisteredDomain extends Owner {
  readonly name: string;
  readonly epoch: bigint;
}

/** The facts of one host for a decision about one domain. */
export interface OwnershipFacts {
  readonly me: Owner;
  /** The running domain; undefined if it does not run here. */
  readonly here: { readonly name: string } | undefined;
  /** It was seen to migrate in, and has not been claimed since. */
  readonly arrived: boolean;
  /** 'unreadable': there is an entry in an unknown format. */
  readonly seen: RegisteredDomain | 'unreadable' | undefined;
  /** The owner is another host, whose agent is there. */
  readonly ownerIsThere: boolean;
}

export type Decision =
  /** It is already ours. */
  | { readonly do: 'keep'; readonly epoch: bigint }
  /** If `unless` still does not exist. */
  | { readonly do: 'claim'; readonly unless: string | undefined }
  | { readonly do: 'release' }
  /** It runs here, and belongs to another host. Two QEMUs may be using one disk: nothing is done until one of them ends. */
  | { readonly do: 'contest'; readonly owner: string | undefined }
  /** It does not concern this host. */
  | { readonly do: 'nothing' };

/**
 * A present host loses a domain only to one that has seen it arrive; an absent host loses it to any host that runs it.
 * So a QEMU that stays on a host that was cut off, while its domains were started elsewhere, takes nothing back.
 */
export function decide({ me, here, arrived, seen, ownerIsThere }: OwnershipFacts): Decision {
  if (here === undefined) {
    const ours = seen !== undefined && seen !== 'unreadable' && seen.host === me.host;
    return ours ? { do: 'release' } : { do: 'nothing' };
  }
  if (seen === undefined) return { do: 'claim', unless: undefined };
  if (seen === 'unreadable') return { do: 'contest', owner: undefined };
  if (seen.host === me.host) {
    const same = seen.instance === me.instance && seen.name === here.name;
    return same ? { do: 'keep', epoch: seen.epoch } : { do: 'claim', unless: undefined };
  }
  if (arrived) return { do: 'claim', unless: undefined };
  return ownerIsThere ? { do: 'contest', owner: seen.host } : { do: 'claim', unless: seen.host };
}
