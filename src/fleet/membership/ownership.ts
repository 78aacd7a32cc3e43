/** Who owns a domain: the decisions, without the asking. Pure. */

export interface Owner {
  readonly host: string;
  readonly instance: string;
}

/** A domain as the directory has it. */
export interface RegisteredDomain extends Owner {
  readonly name: string;
  readonly epoch: bigint;
}

/** What one host knows when it decides about one domain. */
export interface OwnershipFacts {
  readonly me: Owner;
  /** As it runs here; undefined: it does not. */
  readonly here: { readonly name: string } | undefined;
  /** It was seen to migrate in, and has not been claimed since. */
  readonly arrived: boolean;
  /** 'unreadable': there is an entry, of a kind that we do not know. */
  readonly seen: RegisteredDomain | 'unreadable' | undefined;
  /** The agent of the owner, where that is another host, is there. */
  readonly ownerIsThere: boolean;
}

export type Decision =
  /** It is ours already. */
  | { readonly do: 'keep'; readonly epoch: bigint }
  /** Provided that `unless` is still not there. */
  | { readonly do: 'claim'; readonly unless: string | undefined }
  | { readonly do: 'release' }
  /** It runs here, and is another's. Two QEMUs may be running on one disk: nothing is done until one gives in. */
  | { readonly do: 'contest'; readonly owner: string | undefined }
  /** It is none of our business. */
  | { readonly do: 'nothing' };

/**
 * A host that is there loses a domain only to one that has seen it arrive; a host that is not, to any that runs it. So
 * the QEMU that a host still has after it was cut off, and its domains were started elsewhere, takes nothing back.
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
