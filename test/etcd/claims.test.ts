import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { hostKey } from '../../src/fleet/directory/layout.ts';
import { Etcd } from '../../src/fleet/etcd/client.ts';
import { put } from '../../src/fleet/etcd/transactions.ts';
import { Watcher } from '../../src/fleet/etcd/watcher.ts';
import { Claims } from '../../src/fleet/membership/claims.ts';
import { EtcdServer } from '../support/fleet/etcd.ts';
import { needs } from '../support/means.ts';
import { testDir } from '../support/real-qemu/qemu.ts';

const ONE = '00000000-0000-4000-8000-000000000001';

describe.skipIf(needs('etcd'))('the claims of a host', () => {
  it('is not trusted after a new registration before it is checked', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    using etcd = new Etcd({ endpoints: [server.url] });
    await using watcher = new Watcher(etcd, () => undefined);
    const host = { name: 'a', address: 'a:1', identity: '', version: '1', instance: 'of a' };
    const claims = new Claims({ etcd, watcher, host, log: pino({ level: 'silent' }), changed: () => undefined });
    const { signal } = new AbortController();
    const { revision } = await etcd.txn({ when: [], ifSo: [put(hostKey('a'), 'is there')] });
    claims.advertise([{ id: ONE, name: 'vm' }], { complete: true });
    await claims.settle(revision, signal);
    const epoch = claims.epochOf(ONE);
    expect([epoch === undefined, claims.isPending(ONE)]).toEqual([false, false]);

    claims.reopen();
    expect([claims.epochOf(ONE), claims.isPending(ONE)]).toEqual([undefined, true]);
    await claims.settle(revision, signal);
    expect([claims.epochOf(ONE), claims.isPending(ONE)]).toEqual([epoch, false]);
    claims.close();
  });
});
