/** A page of a list for a caller that may not read all of it. */
import type { Page } from '../core/block-jobs.ts';
import { type Order, page, pageSize } from '../core/rules/list.ts';

export interface PageAsked {
  readonly pageSize: number;
  readonly pageToken: string;
}

/** Many items are left out: they are read in as few calls as possible. */
const MOST = 500;

/**
 * As many items as requested, if the caller may read so many. A token is the position of an item: one that the caller
 * may read, because others would show it their names.
 */
export async function readablePage<Item>(
  order: Order<Item>,
  asked: PageAsked,
  { ask, mayRead }: { readonly ask: (at: PageAsked) => Promise<Page<Item>>; readonly mayRead: (item: Item) => boolean },
): Promise<Page<Item>> {
  let found = await ask(asked);
  if (found.items.every(mayRead)) return found;
  const items = found.items.filter(mayRead);
  const unreachable = new Set(found.unreachableHosts);
  while (found.nextPageToken !== '' && items.length <= pageSize(asked.pageSize)) {
    found = await ask({ pageSize: MOST, pageToken: found.nextPageToken });
    items.push(...found.items.filter(mayRead));
    for (const host of found.unreachableHosts) unreachable.add(host);
  }
  return { ...page(items, order, asked), unreachableHosts: [...unreachable].toSorted() };
}
