/** A lease of a real etcd: it ends here before it ends there, and silence alone never ends it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Etcd } from '../../src/fleet/etcd/client.ts';
import { Lease } from '../../src/fleet/etcd/lease.ts';
import { put } from '../../src/fleet/etcd/transactions.ts';
import { Wake } from '../../src/lib/wake.ts';
import { EtcdServer } from '../support/fleet/etcd.ts';
import { entriesIn } from '../support/fleet/fleet.ts';
import { TcpProxy } from '../support/hostile/tcp-proxy.ts';
import { needs } from '../support/means.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { until } from '../support/until.ts';

const TTL_SECONDS = 3;

/** A lease with a key, and a promise that resolves when it is gone. */
async function leaseOf(etcd: Etcd, ttlSeconds = TTL_SECONDS) {
  const wake = new Wake();
  const state = { gone: false, troubles: 0 };
  const gone = () => {
    state.gone = true;
    wake.notify();
  };
  const trouble = () => {
    state.troubles += 1;
    wake.notify();
  };
  const lease = await Lease.grant(etcd, ttlSeconds, { gone, trouble }, new AbortController().signal);
  await etcd.txn({ when: [], ifSo: [put('/leased', '1', lease.id)] });
  return { lease, wake, state };
}

/** Looks every few milliseconds, from outside, until the key is gone; returns the time. */
async function keyGoneAt(server: EtcdServer): Promise<number> {
  using etcd = new Etcd({ endpoints: [server.url] });
  for (;;) {
    const entries = await entriesIn(etcd, { key: '/leased' });
    if (entries.length === 0) return performance.now();
    await sleep(20);
  }
}

describe.skipIf(needs('etcd'))('a lease', { concurrent: true }, () => {
  it('is kept for longer than its time, and its key goes at once when it is revoked', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    using etcd = new Etcd({ endpoints: [server.url] });
    const { lease, state } = await leaseOf(etcd);
    const until2 = performance.now() + 2 * TTL_SECONDS * 1000;
    while (performance.now() < until2) {
      expect(lease.certainForMs).toBeGreaterThan(0);
      await sleep(100);
    }
    expect(await server.keys('/leased')).toEqual(['/leased']);
    await lease.revoke(2_000);
    expect(await server.keys('/leased')).toEqual([]);
    expect(state).toEqual({ gone: false, troubles: 0 });
  });

  it('is over here before it is over in etcd, when nothing comes through', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    await using proxy = await TcpProxy.to(server.port);
    using etcd = new Etcd({ endpoints: [proxy.url] });
    const { lease } = await leaseOf(etcd);
    await using _lease = lease;
    proxy.hole();
    const there = keyGoneAt(server);
    while (lease.certainForMs > 0) await sleep(10);
    const here = performance.now();
    expect(await there).toBeGreaterThan(here);
  });

  it('outlives an etcd that was down for longer than its time', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    using etcd = new Etcd({ endpoints: [server.url] });
    const { lease, wake, state } = await leaseOf(etcd);
    await using _lease = lease;
    await server.signal('SIGKILL');
    while (lease.certainForMs > -500) await sleep(50);
    expect(state.troubles).toBeGreaterThan(0);
    await server.start();
    while (lease.certainForMs <= 0) await wake.after(wake.now, { timeoutMs: 20 });
    expect(state.gone).toBe(false);
    expect(await server.keys('/leased')).toEqual(['/leased']);
  });

  it('says that it is gone when etcd says so', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    using etcd = new Etcd({ endpoints: [server.url] });
    const { lease, wake, state } = await leaseOf(etcd);
    await using _lease = lease;
    await server.ctl('lease', 'revoke', lease.id.toString(16));
    await until('that', wake, () => state.gone);
    expect(lease.certainForMs).toBe(0);
  });

  it('is renewed at another member when one hangs, before its time is over', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    await using first = await TcpProxy.to(server.port);
    await using second = await TcpProxy.to(server.port);
    using etcd = new Etcd({ endpoints: [first.url, second.url] });
    // A third of it is left for the renewal at the other member: some seconds, on a busy machine.
    const ttlSeconds = 2 * TTL_SECONDS;
    const { lease, state } = await leaseOf(etcd, ttlSeconds);
    await using _lease = lease;
    for (const [hangs, works] of [
      [first, second],
      [second, first],
    ] as const) {
      works.pass();
      hangs.hole();
      const end = performance.now() + 2 * ttlSeconds * 1000;
      while (performance.now() < end) {
        expect(lease.certainForMs).toBeGreaterThan(0);
        await sleep(50);
      }
    }
    expect(state.gone).toBe(false);
    expect(await server.keys('/leased')).toEqual(['/leased']);
  });
});
