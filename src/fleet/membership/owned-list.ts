/** The domains of a host, by its own entry in etcd. */

import { readOwned } from '../directory/layout.ts';
import type { Entry } from '../etcd/keys.ts';

export interface OwnedList {
  readonly ids: ReadonlySet<string>;
  /** 0 if there is no such entry. */
  readonly modRevision: bigint;
}

export const NO_LIST: OwnedList = { ids: new Set(), modRevision: 0n };

export function listOf(entry: Entry | undefined): OwnedList {
  return entry === undefined ? NO_LIST : { ids: new Set(readOwned(entry)), modRevision: entry.modRevision };
}
