/** The rules of the lists, and of a watch, that need nothing but the request. */
import type { ListJobsRequest, WatchRequest } from '../requests.ts';
import { given, invalid, known, throwIfAny } from './rule.ts';

const PAGE_SIZE = { default: 100, maximum: 500 };
const PROGRESS_INTERVAL_MS = { minimum: 100, default: 1000, maximum: 3_600_000 };

/** How many a page holds. Throws for a negative number. */
function pageSize(asked: number): number {
  throwIfAny(asked < 0 ? [invalid('page_size', 'is negative; give 0 for the default')] : []);
  return Math.min(asked === 0 ? PAGE_SIZE.default : asked, PAGE_SIZE.maximum);
}

/** The states to list. Throws for those that nobody knows. */
export function stateFilter({ states }: ListJobsRequest): ReadonlySet<string> {
  throwIfAny(states.flatMap((state) => known('state_filter', state)));
  return new Set(states.flatMap((state) => given(state) ?? []));
}

/** How often progress is sent. Throws when out of range. */
export function progressIntervalMs({ progressIntervalMs: asked }: WatchRequest): number {
  if (asked === undefined) return PROGRESS_INTERVAL_MS.default;
  const inRange = asked >= PROGRESS_INTERVAL_MS.minimum && asked <= PROGRESS_INTERVAL_MS.maximum;
  throwIfAny(inRange ? [] : [invalid('progress_interval', 'must be from 100 milliseconds to 1 hour')]);
  return asked;
}

/** One page of a list; a token names the first item of the next. Throws for a token of another list. */
export function page<Item>(
  all: readonly Item[],
  key: (item: Item) => string,
  asked: number,
  token: string,
): { readonly items: readonly Item[]; readonly nextPageToken: string } {
  const size = pageSize(asked);
  const from = token === '' ? 0 : all.findIndex((item) => key(item) === token);
  throwIfAny(from === -1 ? [invalid('page_token', 'is not of this list; begin anew without one')] : []);
  const next = all[from + size];
  return { items: all.slice(from, from + size), nextPageToken: next === undefined ? '' : key(next) };
}
