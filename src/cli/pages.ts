/** Whole lists from their pages, and a note about missing items. */
import { EXIT, type ExitCode } from './exit.ts';
import type { CliRun } from './run.ts';

interface Page {
  readonly nextPageToken: string;
  readonly unreachableHosts: readonly string[];
}

export async function allPages<Answer extends Page, Item>(
  pageAt: (token: string) => Promise<Answer>,
  itemsOf: (answer: Answer) => readonly Item[],
  limit = Infinity,
): Promise<{ items: Item[]; unreachableHosts: string[] }> {
  const items: Item[] = [];
  const hosts = new Set<string>();
  let token = '';
  do {
    const page = await pageAt(token);
    items.push(...itemsOf(page));
    for (const host of page.unreachableHosts) hosts.add(host);
    token = page.nextPageToken;
  } while (token !== '' && items.length < limit);
  return { items: items.slice(0, limit), unreachableHosts: [...hosts] };
}

/** A list without the hosts that do not answer is incomplete, and the exit code says so. */
export function tellUnreachable(session: CliRun, hosts: readonly string[], domains: readonly string[] = []): ExitCode {
  const exitCode = hosts.length === 0 ? EXIT.done : EXIT.unreachable;
  if (domains.length > 0)
    session.note(`these VMs do not answer, so jobs of other clients are missing for them: ${domains.join(', ')}`);
  if (hosts.length > 0) session.note(`these hosts do not answer, so their items are missing: ${hosts.join(', ')}`);
  if (session.isJson && hosts.length + domains.length > 0)
    session.tell({ type: 'unreachable', hosts, ...(domains.length > 0 && { domains }), exitCode }, []);
  return exitCode;
}
