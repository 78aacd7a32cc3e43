/** Lists that come in pages, whole; and what is missing in them. */
import { EXIT, type ExitCode } from './exit.ts';
import type { Session } from './session.ts';

interface Page<Item> {
  readonly items: readonly Item[];
  readonly nextPageToken: string;
  readonly unreachableHosts: readonly string[];
}

export async function allPages<Item>(
  pageAt: (token: string) => Promise<Page<Item>>,
  limit = Infinity,
): Promise<{ items: Item[]; unreachableHosts: string[] }> {
  const items: Item[] = [];
  const hosts = new Set<string>();
  let token = '';
  do {
    const page = await pageAt(token);
    items.push(...page.items);
    for (const host of page.unreachableHosts) hosts.add(host);
    token = page.nextPageToken;
  } while (token !== '' && items.length < limit);
  return { items: items.slice(0, limit), unreachableHosts: [...hosts] };
}

/** A list without the hosts that do not answer is not what was asked for. */
export function tellUnreachable(session: Session, hosts: readonly string[]): ExitCode {
  if (hosts.length === 0) return EXIT.done;
  if (session.isJson) session.tell({ type: 'unreachable', hosts, exitCode: EXIT.unreachable }, []);
  session.note(`these hosts do not answer, and what they have is missing here: ${hosts.join(', ')}`);
  return EXIT.unreachable;
}
