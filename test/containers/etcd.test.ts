/** What becomes of a fleet when etcd dies, forgets, or is full. */
import { describe, expect, it } from 'vitest';
import { Job_State, OnReady } from '../../generated/blockjob/v1/job.ts';
import { refused } from '../support/caller.ts';
import { eventually } from '../support/docker/eventually.ts';
import { TTL_MS } from '../support/docker/roles.ts';
import { follow } from '../support/docker/site-caller.ts';
import { siteOfSuite } from '../support/docker/suite.ts';
import { needs } from '../support/means.ts';
import { within } from '../support/qemu.ts';

const QUOTA_BYTES = 32 << 20;

describe.skipIf(needs('docker'))('a fleet whose etcd', () => {
  const suite = siteOfSuite({ etcd: ['--quota-backend-bytes', String(QUOTA_BYTES)] });

  it('dies amid copies, for longer than a lease: calls are routed from memory, jobs end truthfully, and all heals', async () => {
    const { site, started } = suite;
    using first = await site.caller(site.gateways[0]);
    using second = await site.caller(site.gateways[1]);
    const copies = await Promise.all(
      site.hosts.map(async (host, at) => {
        const [{ name }] = host.vms;
        const to = `/var/lib/images/without-etcd.qcow2`;
        // The last one ends by itself, amid the outage.
        const onReady = at === 2 ? OnReady.ON_READY_FINISH : OnReady.ON_READY_HOLD;
        const { id } = await first.copy(name, to, { mibPerSecond: 8, onReady });
        started.push(id);
        return { host, name, to, id };
      }),
    );
    const [one, , last] = copies;
    const watches = await Promise.all(copies.map(async ({ id }) => await follow([second], id)));
    const lastWatch = watches.at(-1);
    if (one === undefined || last === undefined || lastWatch === undefined) throw new Error('there are three hosts');
    await site.etcd.kill();
    const diedAt = performance.now();
    expect((await within(30_000, 'the copy that ends by itself', lastWatch.end)).state).toBe(Job_State.STATE_COMPLETED);
    await last.host.expectBytes(last.to, 1, '0', '48M');
    await eventually('changes are refused when the leases are over', 2 * TTL_MS, async () => {
      const { reason } = await refused(second.pivot(one.id));
      return reason === 'DIRECTORY_UNREACHABLE' || undefined;
    });
    // Longer than any lease.
    await eventually('time passes', 2 * TTL_MS, async () => performance.now() - diedAt > TTL_MS + 2000 || undefined);
    for (const caller of [first, second]) {
      const { domains, unreachableHosts } = await caller.allDomains();
      expect({ domains: domains.length, unreachableHosts }).toEqual({ domains: 6, unreachableHosts: [] });
      for (const { host, name, id } of copies) {
        expect((await caller.getDomain(name)).host).toBe(host.name);
        expect((await caller.getInfo(id)).host).toBe(host.name);
      }
    }
    expect((await refused(first.getDomain('nobody'))).reason).toBe('DIRECTORY_UNREACHABLE');

    await site.etcd.start();
    for (const { host, id, to, name } of copies.slice(0, 2)) {
      const job = await eventually('it may be pivoted again', 20_000, async () => await first.pivot(id));
      expect(job.outcome?.guestWritesTo).toBe(to);
      expect(await host.imageOf(name)).toBe(to);
    }
    expect(
      (await within(10_000, 'the watches', Promise.all(watches.map(async ({ end }) => await end)))).map(
        ({ state }) => state,
      ),
    ).toEqual(copies.map(() => Job_State.STATE_COMPLETED));
    // Who owns what has not changed.
    for (const { vms } of site.hosts) {
      for (const { uuid } of vms) expect((await site.observer.ownersOf(uuid)).length).toBe(1);
    }
  }, 90_000);

  it('is started again and compacted while a gateway is away: that one knows what it has missed', async () => {
    const { site } = suite;
    const [g1, g2] = site.gateways;
    const [, , h3] = site.hosts;
    using other = await site.caller(g1);
    using away = await site.caller(g2);
    await g2.leave(site.networks.reading);
    const revision = async () => {
      const said = await site.etcd.exec('etcdctl', 'get', 'none', '--write-out', 'json');
      return (JSON.parse(said) as { header: { revision: number } }).header.revision;
    };
    await h3.signalAgent('TERM');
    await eventually(
      'it has left',
      5000,
      async () => (await site.observer.ofHost('h3')).at(-1)?.value === undefined || undefined,
    );
    await site.etcd.exec('etcdctl', 'put', 'something', 'else');
    await site.etcd.exec('etcdctl', 'compact', String(await revision()));
    await site.etcd.kill();
    await site.etcd.start();
    await g2.join(site.networks.reading);
    for (const caller of [other, away]) {
      await eventually('it knows that the host has left', 20_000, async () => {
        const { message } = await refused(caller.getDomain(h3.vms[0].name));
        return message.includes('its agent is not in the directory') || undefined;
      });
      const { domains, unreachableHosts } = await caller.allDomains();
      expect({ domains: domains.length, unreachableHosts }).toEqual({ domains: 4, unreachableHosts: ['h3'] });
    }
    await h3.startAgent();
    await site.isWhole(20_000);
  });

  it('is full: what there is goes on, an agent that starts waits for room, and all heals', async () => {
    const { site, started } = suite;
    const [h1, h2] = site.hosts;
    const { name } = h1.vms[1];
    using caller = await site.caller(site.gateways[0]);
    await site.etcd.exec(
      'sh',
      '-c',
      'n=0; while head -c 1000000 /dev/urandom | base64 -w0 | head -c 1000000 | etcdctl put filler/$n; do n=$((n+1)); done >/dev/null 2>&1; true',
    );
    expect(await site.etcd.exec('etcdctl', 'alarm', 'list')).toContain('NOSPACE');
    const to = '/var/lib/images/while-full.qcow2';
    const { id } = await caller.copy(name, to, { mibPerSecond: 48 });
    started.push(id);
    await eventually('the copy is ready', 20_000, async () => {
      return (await caller.getInfo(id)).state === Job_State.STATE_READY || undefined;
    });
    expect((await caller.pivot(id)).outcome?.guestWritesTo).toBe(to);
    expect(await h1.imageOf(name)).toBe(to);

    await h2.signalAgent('TERM');
    await h2.startAgent();
    using direct = await site.agent(h2);
    const refusal = await eventually('it answers', 20_000, async () => {
      const answer = await refused(direct.copy(h2.vms[1].name, '/var/lib/images/no.qcow2', { mibPerSecond: 1 }));
      return answer.reason === 'DIRECTORY_UNREACHABLE' ? answer : undefined;
    });
    expect(refusal.message).toContain('not in the directory');

    await site.etcd.exec('etcdctl', 'del', '--prefix', 'filler/');
    const said = await site.etcd.exec('etcdctl', 'get', 'none', '--write-out', 'json');
    const { header } = JSON.parse(said) as { header: { revision: number } };
    await site.etcd.exec('etcdctl', 'compact', String(header.revision));
    await site.etcd.exec('etcdctl', 'defrag');
    await site.etcd.exec('etcdctl', 'alarm', 'disarm');
    await site.isWhole(20_000);
  }, 90_000);

  suite.judge();
});
