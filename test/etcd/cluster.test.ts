/** An etcd of three members, of which some are lost. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostKey, hostValue } from '../../src/fleet/directory/layout.ts';
import { EtcdServer } from '../support/fleet/etcd.ts';
import { Gateway, Member } from '../support/fleet/fleet.ts';
import { needs } from '../support/means.ts';
import { type TestDir, testDir } from '../support/real-qemu/qemu.ts';

const ONE = '00000000-0000-4000-8000-000000000001';
const NEW = hostValue({ name: 'new', address: 'new:1', identity: '', version: '', instance: 'i' });

describe.skipIf(needs('etcd'))('a cluster of three', () => {
  let dir: TestDir;
  let members: readonly [EtcdServer, EtcdServer, EtcdServer];

  beforeAll(async () => {
    dir = await testDir('bj-etcd-');
    members = await EtcdServer.three({ dir: dir.path });
  });
  afterAll(async () => {
    await Promise.all(members.map((one) => one.signal('SIGKILL')));
    await dir[Symbol.asyncDispose]();
  });

  it('may lose any member: agents stay, gateways hear what happens meanwhile', async () => {
    const urls = members.map(({ url }) => url);
    await using gateway = await Gateway.on(urls);
    await using a = Member.on(urls, 'a', { ttlSeconds: 5 });
    await a.own(ONE);
    const owned = [ONE];
    for (const [at, lost] of members.entries()) {
      await lost.signal('SIGKILL');
      const fresh = `00000000-0000-4000-8000-1${String(at).padStart(11, '0')}`;
      owned.push(fresh);
      // Another leader may have to be elected first.
      a.run(...owned);
      await gateway.until('a write meanwhile', () => gateway.find(fresh).is === 'one', 15_000);
      await a.untilVerdict('may by directory', ONE);
      expect(gateway.host('a')).toBeDefined();
      await lost.start();
    }
  });

  it('has a member without the others, which is found within seconds, and its missing events are delivered', async () => {
    const [alone, ...others] = members;
    await using gateway = await Gateway.on(alone.url);
    await Promise.all(others.map((one) => one.signal('SIGSTOP')));
    try {
      await gateway.until('that it knows nothing', () => !gateway.freshness.live, 20_000);
    } finally {
      await Promise.all(others.map((one) => one.signal('SIGCONT')));
    }
    await others[0]?.ctl('--command-timeout', '20s', 'put', hostKey('later'), NEW);
    await gateway.until('the write', () => gateway.host('later') !== undefined && gateway.freshness.live);
    expect(gateway.host('later')?.address).toBe('new:1');
  });
});
