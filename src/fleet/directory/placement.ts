/** Whose a domain is where nobody rules on it: of the hosts that say they run it. Pure. */
import type { HostedDomain, LocalDomain } from './directory.ts';

/**
 * `answers`: what each host said last, of those that ever answered; `listed` counts for a host until it has. A domain
 * that two hosts name, as one that migrates is for a while, stays with the one that had it.
 */
export function place(
  answers: ReadonlyMap<string, readonly LocalDomain[]>,
  listed: readonly HostedDomain[],
  before: ReadonlyMap<string, string>,
): HostedDomain[] {
  const placed = new Map<string, HostedDomain>();
  for (const domain of listed) if (!answers.has(domain.host)) placed.set(domain.id, domain);
  for (const [host, domains] of answers) {
    for (const { id, name } of domains) {
      if (placed.has(id) && before.get(id) !== host) continue;
      placed.set(id, { id, name, host, epoch: 0n });
    }
  }
  return [...placed.values()];
}
