/** The pure parts of the client of etcd. */
import { status } from '@grpc/grpc-js';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { retryInMs } from '../../../src/fleet/etcd/back-off.ts';
import { parseEndpoint } from '../../../src/fleet/etcd/endpoints.ts';
import { isStaleToken, refusalOf } from '../../../src/fleet/etcd/errors.ts';
import { endOfPrefix } from '../../../src/fleet/etcd/keys.ts';
import { isChange, put, read, remove } from '../../../src/fleet/etcd/transactions.ts';

describe('the end of a prefix', () => {
  it('is after all keys that begin with it, and before all others that are greater', () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 4 }).map((all) => Buffer.from(all));
    fc.assert(
      fc.property(bytes, bytes, (prefix, key) => {
        const end = endOfPrefix(prefix);
        // One zero byte means: no end.
        const within = key.compare(prefix) >= 0 && (end.equals(Buffer.alloc(1)) || key.compare(end) < 0);
        expect(within).toBe(key.subarray(0, prefix.length).equals(prefix));
      }),
      { numRuns: 2_000 },
    );
    expect(endOfPrefix(Buffer.from([1, 0xff]))).toEqual(Buffer.from([2]));
    expect(endOfPrefix(Buffer.from([0xff]))).toEqual(Buffer.alloc(1));
  });
});

describe('an endpoint', () => {
  it.each([
    ['https://etcd1:2379', { target: 'dns:etcd1:2379', secure: true }],
    ['https://10.0.0.1:2379/', { target: 'dns:10.0.0.1:2379', secure: true }],
    ['https://[fd00::1]:2379', { target: 'dns:[fd00::1]:2379', secure: true }],
    ['http://127.0.0.1:2379', { target: 'dns:127.0.0.1:2379', secure: false }],
    ['http://[::1]:2379', { target: 'dns:[::1]:2379', secure: false }],
    ['http://localhost:2379', { target: 'dns:localhost:2379', secure: false }],
  ])('%s is understood', (text, endpoint) => {
    expect(parseEndpoint(text)).toEqual(endpoint);
  });

  it.each([
    ['http://10.0.0.1:2379', /not loopback/],
    ['http://localhost.example.org:2379', /not loopback/],
    ['etcd1:2379', /HOST:PORT/],
    ['https://etcd1', /HOST:PORT/],
    ['https://etcd1:99999', /HOST:PORT/],
    ['https://user:word@etcd1:2379', /HOST:PORT/],
    ['https://etcd1:2379/path', /HOST:PORT/],
    ['', /HOST:PORT/],
  ])('%s is refused with a reason', (text, reason) => {
    expect(parseEndpoint(text)).toMatch(reason);
  });
});

describe('an error of etcd', () => {
  it.each([
    [status.RESOURCE_EXHAUSTED, 'etcdserver: mvcc: database space exceeded', 'no-space'],
    [status.PERMISSION_DENIED, 'etcdserver: permission denied', 'denied'],
    [status.UNAUTHENTICATED, 'etcdserver: invalid auth token', 'not-authenticated'],
    [status.INVALID_ARGUMENT, 'etcdserver: authentication failed, invalid user ID or password', 'not-authenticated'],
    [status.INVALID_ARGUMENT, 'etcdserver: user name is empty', 'not-authenticated'],
    [status.NOT_FOUND, 'etcdserver: requested lease not found', 'lease-gone'],
    [status.OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted', 'compacted'],
    [status.INVALID_ARGUMENT, 'etcdserver: request is too large', 'other'],
    [status.UNAVAILABLE, 'etcdserver: no leader', undefined],
    [status.UNAVAILABLE, 'etcdserver: request timed out', undefined],
    [status.DEADLINE_EXCEEDED, 'Deadline exceeded', undefined],
    [status.UNKNOWN, 'context deadline exceeded', undefined],
  ])('%i %s is a no of the kind %s', (code, details, why) => {
    expect(refusalOf({ code, details })).toBe(why);
  });

  it.each([
    [status.UNAUTHENTICATED, 'etcdserver: invalid auth token', true],
    [status.INVALID_ARGUMENT, 'etcdserver: revision of auth store is old', true],
    [status.INVALID_ARGUMENT, 'etcdserver: authentication failed, invalid user ID or password', false],
    [status.PERMISSION_DENIED, 'etcdserver: permission denied', false],
  ])('%i %s: a new token helps: %s', (code, details, helps) => {
    expect(isStaleToken({ code, details })).toBe(helps);
  });
});

describe('a transaction', () => {
  it.each([
    ['nothing', { when: [], ifSo: [] }, false],
    ['reads', { when: [], ifSo: [read('/a')], ifNot: [read('/b')] }, false],
    ['a write', { when: [], ifSo: [read('/a'), put('/a', '1')] }, true],
    ['a deletion otherwise', { when: [], ifSo: [], ifNot: [remove('/a')] }, true],
  ])('of %s changes something: %#', (_what, txn, changes) => {
    expect(isChange(txn)).toBe(changes);
  });
});

describe('the pause between attempts', () => {
  it('doubles up to its bound, and half of it is chance', () => {
    expect([0, 1, 2, 3, 9].map((failures) => retryInMs(failures, 2_000, 0))).toEqual([50, 100, 200, 400, 2_000]);
    expect(retryInMs(9, 2_000, 1)).toBe(1_000);
    expect(retryInMs(9, 500, 0)).toBe(500);
  });
});
