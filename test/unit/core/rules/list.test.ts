import { describe, expect, it } from 'vitest';
import type { ListJobsRequest, WatchRequest } from '../../../../src/core/requests.ts';
import {
  type Order,
  page,
  progressIntervalMs,
  showsForeign,
  stateFilter,
  tokenForHosts,
} from '../../../../src/core/rules/list.ts';

const LIST: ListJobsRequest = { domain: '', states: [], pageSize: 0, pageToken: '' };
const WATCH: WatchRequest = { job: { jobId: 'bj1' }, afterRevision: undefined, progressIntervalMs: undefined };

const ORDER: Order<string> = { list: 'things', key: (item) => item };

const shown = (more: Partial<ListJobsRequest>) => showsForeign({ ...LIST, ...more });

describe('a list', () => {
  const items = Array.from({ length: 1001 }, (_, index) => `job ${String(index).padStart(4, '0')}`);

  it('holds every item once, in order, however small the pages are', () => {
    const shuffled = items.toReversed();
    for (const size of [1, 7, 500]) {
      const seen: string[] = [];
      let token = '';
      do {
        const { items: some, nextPageToken } = page(shuffled, ORDER, { pageSize: size, pageToken: token });
        seen.push(...some);
        token = nextPageToken;
      } while (token !== '');
      expect(seen).toEqual(items);
    }
  });

  it('has 100 items a page if not said otherwise, and never more than 500', () => {
    expect(page(items, ORDER, { pageSize: 0, pageToken: '' }).items).toHaveLength(100);
    expect(page(items, ORDER, { pageSize: 100_000, pageToken: '' }).items).toHaveLength(500);
  });

  it('has no next page at its very end, nor when it is empty', () => {
    const all = { pageSize: 2, pageToken: '' };
    expect(page(['b', 'a'], ORDER, all)).toEqual({ items: ['a', 'b'], nextPageToken: '' });
    expect(page([], ORDER, all)).toEqual({ items: [], nextPageToken: '' });
  });

  it('has tokens of the same list on every host: neither the order of fields nor an unset one makes a difference', () => {
    const asked = { pageSize: 1, pageToken: '', domain: 'web1', labels: { a: '1', b: '2' }, states: [] };
    const { nextPageToken: pageToken } = page(items, ORDER, asked);
    const there = { labels: { b: '2', a: '1' }, createdBy: '', domain: 'web1', pageSize: 1, pageToken };
    expect(page(items, ORDER, there).items).toEqual([items[1]]);
    for (const other of [{ domain: 'web2' }, { labels: { a: '1' } }, { createdBy: 'x' }])
      expect(() => page(items, ORDER, { ...there, ...other })).toThrow('page_token: is not from this list');
  });

  it('has tokens that a request may have, whatever the filter', () => {
    const labels = Object.fromEntries(items.slice(0, 32).map((item) => [`${item}${'k'.repeat(300)}`, 'v'.repeat(63)]));
    const asked = { pageSize: 1, pageToken: '', domain: '\u{20ac}'.repeat(341), labels, createdBy: '/'.repeat(2048) };
    const { nextPageToken } = page(items, ORDER, asked);
    expect(nextPageToken.length).toBeLessThan(100);
  });

  it('has tokens for the hosts of a fleet that hosts of all versions take, whatever their filters have', () => {
    const asked = { pageSize: 1, pageToken: '', domain: 'web1' };
    const { nextPageToken } = page(items, ORDER, asked);
    const pageToken = tokenForHosts(nextPageToken);
    expect(decodeURIComponent(pageToken)).toBe(`things ${items[0]}`);
    expect(tokenForHosts(pageToken)).toBe(pageToken);
    const there = { ...asked, pageToken, another: 'field' };
    expect(page(items, ORDER, there).items).toEqual([items[1]]);
    expect(() => page(items, { ...ORDER, list: 'others' }, { pageSize: 1, pageToken })).toThrow(
      'is not from this list',
    );
    for (const none of ['', '%ff']) expect(tokenForHosts(none)).toBe('');
  });

  it('refuses a negative size and a token of another list', () => {
    expect(() => page(items, ORDER, { pageSize: -1, pageToken: '' })).toThrow('page_size: is negative');
    const { nextPageToken } = page(items, { ...ORDER, list: 'others' }, { pageSize: 1, pageToken: '' });
    for (const pageToken of ['elsewhere', '%', '%ff', nextPageToken]) {
      expect(() => page(items, ORDER, { pageSize: 0, pageToken })).toThrow('page_token: is not from this list');
    }
  });

  it('refuses a token that was given for other fields, and takes another size', () => {
    const asked = { domain: 'vm1', states: ['READY'], pageSize: 1, pageToken: '' };
    const { nextPageToken: pageToken } = page(items, ORDER, asked);
    expect(page(items, ORDER, { ...asked, pageSize: 2, pageToken }).items).toHaveLength(2);
    for (const other of [{ domain: 'vm2' }, { states: [] }, { domain: '' }])
      expect(() => page(items, ORDER, { ...asked, ...other, pageToken })).toThrow('page_token: is not from this list');
  });

  it('continues at its place though items come and go between two pages', () => {
    const { nextPageToken } = page(['a', 'b', 'c'], ORDER, { pageSize: 2, pageToken: '' });
    expect(page(['0', 'c', 'd'], ORDER, { pageSize: 2, pageToken: nextPageToken }).items).toEqual(['c', 'd']);
  });

  it('is the same of many hosts as of one: a full page has a next one if any of them has more', () => {
    const asked = { pageSize: 2, pageToken: '' };
    const newest: Order<string> = { ...ORDER, descending: true };
    const hosts = [['e', 'b'], ['d', 'c', 'a'], []];
    const pages = hosts.map((host) => page(host, newest, asked));
    const merged = page(
      pages.flatMap((one) => one.items),
      newest,
      asked,
      pages.some(({ nextPageToken }) => nextPageToken !== ''),
    );
    expect(merged.items).toEqual(['e', 'd']);
    const full = page(['d', 'c'], newest, asked, true);
    expect(page(['b'], newest, { ...asked, pageToken: full.nextPageToken }).items).toEqual(['b']);
  });

  it('filters by states, all for none, and refuses one that it does not know', () => {
    expect(stateFilter(LIST)).toEqual(new Set());
    expect(stateFilter({ ...LIST, states: ['READY', undefined, 'READY'] })).toEqual(new Set(['READY']));
    expect(() => stateFilter({ ...LIST, states: [{ unrecognized: 99 }] })).toThrow('state_filter: has no value 99');
  });

  it('has foreign jobs on its first page, unless ended jobs alone are asked for', () => {
    const { nextPageToken } = page(['a', 'b'], { ...ORDER, list: 'jobs' }, { pageSize: 1, pageToken: '' });
    expect([shown({}), shown({ states: ['RUNNING'] }), shown({ states: ['COMPLETED', 'READY'] })]).toEqual([
      true,
      true,
      true,
    ]);
    expect([shown({ pageToken: nextPageToken }), shown({ states: ['COMPLETED', 'FAILED'] })]).toEqual([false, false]);
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
