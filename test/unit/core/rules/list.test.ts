import { describe, expect, it } from 'vitest';
import type { ListJobsRequest, WatchRequest } from '../../../../src/core/requests.ts';
import { page, progressIntervalMs, stateFilter } from '../../../../src/core/rules/list.ts';

const LIST: ListJobsRequest = { domain: '', states: [], pageSize: 0, pageToken: '' };
const WATCH: WatchRequest = { job: { jobId: 'bj1' }, afterRevision: undefined, progressIntervalMs: undefined };

const key = (item: string) => item;

describe('a list', () => {
  const items = Array.from({ length: 1001 }, (_, index) => `job${index}`);

  it('holds every item once however small the pages are', () => {
    for (const size of [1, 7, 500]) {
      const seen: string[] = [];
      let token = '';
      do {
        const { items: some, nextPageToken } = page(items, key, size, token);
        seen.push(...some);
        token = nextPageToken;
      } while (token !== '');
      expect(seen).toEqual(items);
    }
  });

  it('has 100 items a page if not said otherwise, and never more than 500', () => {
    expect(page(items, key, 0, '').items).toHaveLength(100);
    expect(page(items, key, 100_000, '').items).toHaveLength(500);
  });

  it('has no next page at its very end, nor when it is empty', () => {
    expect(page(['a', 'b'], key, 2, '')).toEqual({ items: ['a', 'b'], nextPageToken: '' });
    expect(page([], key, 0, '')).toEqual({ items: [], nextPageToken: '' });
  });

  it('refuses a negative size and a token of another list', () => {
    expect(() => page(items, key, -1, '')).toThrow('page_size: is negative');
    expect(() => page(items, key, 0, 'elsewhere')).toThrow('page_token: is not of this list');
  });

  it('filters by states, all for none, and refuses one that it does not know', () => {
    expect(stateFilter(LIST)).toEqual(new Set());
    expect(stateFilter({ ...LIST, states: ['READY', undefined, 'READY'] })).toEqual(new Set(['READY']));
    expect(() => stateFilter({ ...LIST, states: [{ unrecognized: 99 }] })).toThrow('state_filter: has no value 99');
  });
});

describe('the interval of progress', () => {
  it.each([100, 101, 3_600_000])('may be %d ms', (asked) => {
    expect(progressIntervalMs({ ...WATCH, progressIntervalMs: asked })).toBe(asked);
  });
  it('is a second if not said otherwise', () => {
    expect(progressIntervalMs(WATCH)).toBe(1000);
  });
  it.each([-1, 0, 99, 3_600_001, Number.NaN])('cannot be %d ms', (asked) => {
    expect(() => progressIntervalMs({ ...WATCH, progressIntervalMs: asked })).toThrow('FIELD_INVALID');
  });
});
