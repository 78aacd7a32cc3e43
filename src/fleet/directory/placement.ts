/** The owner of a domain in a static site: out of the hosts that say they run it. Pure. */
import type { HostedDomain, LocalDomain } from './directory.ts';

/**
 * `answers`: the last answer of each host that ever answered; until then its `listed` ones count. A domain that two
 * hosts name, for example during a migration, stays with the previous one.
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
