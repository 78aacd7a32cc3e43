/** The question of an agent before each change: does this host still own the domain? */
import type { Call } from '../../core/block-jobs.ts';
import { fail } from '../../core/errors.ts';
import { domainId, type Membership } from '../directory/directory.ts';

/** A caller waits for the answer. */
const DIRECTORY_ANSWERS_MS = 3000;

interface Asked {
  readonly name: string;
  readonly uuid: string | undefined;
}

export class Fence {
  readonly #membership: Membership;
  readonly #host: string;

  constructor(membership: Membership, host: string) {
    this.#membership = membership;
    this.#host = host;
  }

  /** Rejects with one of NOT_OURS, or with DIRECTORY_UNREACHABLE if the owner cannot be determined. */
  async mayChange({ name, uuid }: Asked, call: Call): Promise<void> {
    const { signal, epoch } = call;
    const verdict = await this.#membership.mayAct(domainId(uuid ?? '', name, this.#host), {
      timeoutMs: DIRECTORY_ANSWERS_MS,
      signal,
      epoch,
    });
    const host = this.#host;
    if (verdict.may) return;
    switch (verdict.why) {
      case 'not-owner':
        if (verdict.owner === undefined) return fail('OWNER_UNKNOWN', { host, domain: name });
        return fail('NOT_OWNER', { host, domain: name, owner: verdict.owner });
      case 'other-epoch':
        return fail('OWNERSHIP_STALE', { host, domain: name });
      case 'not-known':
        return fail('DIRECTORY_UNREACHABLE', { why: verdict.text, what: `the owner of domain ${name}` });
    }
  }
}
