/** The rules of the lists, and of a watch, that need only the request. */
import type { Domain, Leftover } from '../block-jobs.ts';
import { canonical } from '../canonical.ts';
import { hasEnded, type JobState } from '../job/job.ts';
import type { JobView } from '../job/job-view.ts';
import type { ListJobsRequest, WatchJobsRequest, WatchRequest } from '../requests.ts';
import { enumKnown, given, invalid, invalidField, labelRules, throwIfAny } from './rule.ts';

const PAGE_SIZE = { default: 100, maximum: 500 };
const PROGRESS_INTERVAL_MS = { minimum: 100, default: 1000, maximum: 3_600_000 };

/** The size of a page. Throws for a negative number. */
export function pageSize(asked: number): number {
  throwIfAny(asked < 0 ? [invalid('page_size', 'is negative; give 0 for the default')] : []);
  return Math.min(asked === 0 ? PAGE_SIZE.default : asked, PAGE_SIZE.maximum);
}

/** The states to list. Throws for unknown ones, and for labels that no job can have. */
export function stateFilter({ states, labels }: ListJobsRequest): ReadonlySet<JobState> {
  throwIfAny([...states.flatMap((state) => enumKnown('state_filter', state)), ...labelRules('label_filter', labels)]);
  return new Set(states.flatMap((state) => given(state) ?? []));
}

/** Foreign jobs have none of our states, and are running, because QEMU has them. They are all on the first page. */
export function showsForeign(request: ListJobsRequest): boolean {
  const states = stateFilter(request);
  return request.pageToken === '' && (states.size === 0 || [...states].some((state) => !hasEnded({ state })));
}

/** How often progress is sent. Throws if it is out of range. */
export function progressIntervalMs({ progressIntervalMs: asked }: Pick<WatchRequest, 'progressIntervalMs'>): number {
  if (asked === undefined) return PROGRESS_INTERVAL_MS.default;
  const inRange = asked >= PROGRESS_INTERVAL_MS.minimum && asked <= PROGRESS_INTERVAL_MS.maximum;
  throwIfAny(inRange ? [] : [invalid('progress_interval', 'must be from 100 milliseconds to 1 hour')]);
  return asked;
}

/** The identity and the order of the items of a list: by one key that is the same on every host. */
export interface Order<Item> {
  readonly list: string;
  readonly key: (item: Item) => string;
  readonly descending?: true;
}

export const BY_AGE: Order<{
  readonly job: Pick<JobView['job'], 'createTime'> & { readonly accepted: { readonly job: string } };
}> = { list: 'jobs', key: ({ job }) => `${job.createTime} ${job.accepted.job}`, descending: true };
export const BY_NAME: Order<Domain> = { list: 'domains', key: ({ name, host }) => `${name} ${host}` };
export const OLDEST_FIRST: Order<Leftover> = {
  list: 'leftovers',
  key: ({ createTime, host, id }) => `${createTime ?? ''} ${host} ${id}`,
};

/**
 * One page of a list. A token is a position in the order, so it stays valid while items come and go, and on every host.
 * `asked` is the whole request: its other fields are the filter. Throws for a token of another list or filter.
 * `hasMore`: more items are known to be elsewhere.
 */
export function page<Item>(
  all: readonly Item[],
  { list, key, descending }: Order<Item>,
  { pageSize: most, pageToken, ...filter }: { readonly pageSize: number; readonly pageToken: string },
  hasMore = false,
): { readonly items: readonly Item[]; readonly nextPageToken: string } {
  const size = pageSize(most);
  const digits = digitsOf(filter);
  const after = placeOf(list, digits, pageToken);
  const isAfter = (item: Item) => after === undefined || (descending === true ? key(item) < after : key(item) > after);
  const sorted = all.filter(isAfter).toSorted((a, b) => (key(a) < key(b) === (descending === true) ? 1 : -1));
  const items = sorted.slice(0, size);
  const last = items.at(-1);
  const isLast = last === undefined || (sorted.length <= size && !hasMore);
  return { items, nextPageToken: isLast ? '' : encoded(`${list}:${digits} ${key(last)}`) };
}

/**
 * A few digits for a filter, the same on every host. They keep a caller from an error, not from an attack, and the
 * whole filter would make a token longer than a request may have.
 */
function digitsOf(filter: object): string {
  const text = JSON.stringify(canonical(filter)) ?? '';
  // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return (hash >>> 0).toString(16);
}

/** The token for the hosts of a fleet. Another version may have other fields in its filter, so it is left out. */
export function tokenForHosts(token: string): string {
  return encoded(decoded(token).replace(/^(\w+):\w+ /, '$1 '));
}

/** Without digits it comes from a gateway, which has compared them. */
function placeOf(list: string, digits: string, token: string): string | undefined {
  if (token === '') return undefined;
  const text = decoded(token);
  const start = [`${list}:${digits} `, `${list} `].find((one) => text.startsWith(one));
  if (start === undefined) throw invalidField('page_token', 'is not from this list; begin again without it');
  return text.slice(start.length);
}

function encoded(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

/** '' for a text that this service did not encode. */
function decoded(token: string): string {
  try {
    return decodeURIComponent(token);
  } catch {
    return '';
  }
}

/** How often the progress of a job is sent. Throws all that is wrong with the request. */
export function parseWatchJobs(request: WatchJobsRequest): number {
  throwIfAny(labelRules('label_filter', request.labels));
  return progressIntervalMs(request);
}
