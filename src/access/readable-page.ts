/** A page of a list for a caller who may not read all of it. */
import type { Page } from '../core/block-jobs.ts';
import { type Order, page, pageSize } from '../core/rules/list.ts';

export interface PageAsked {
  readonly pageSize: number;
  readonly pageToken: string;
}

/** Of what is left out there are many: asked for in as few calls as may be. */
const MOST = 500;

/**
 * As many as are asked for, if there are so many that may be read. A token is the place of an item: it is that of one
 * which may be read, as from the others it would tell their names.
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
