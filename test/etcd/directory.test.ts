/** Places and owners in a real etcd, through all that can happen to agents, gateways and etcd. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { HostNameTaken } from '../../src/fleet/directory/directory.ts';
import { domainKey, domainValue, hostKey, hostValue, ownedKey } from '../../src/fleet/directory/layout.ts';
import { Etcd } from '../../src/fleet/etcd/client.ts';
import { put } from '../../src/fleet/etcd/transactions.ts';
import { eventually } from '../support/checks.ts';
import { EtcdServer } from '../support/fleet/etcd.ts';
import { domainOf, entriesIn, Gateway, Member, MemberProcess } from '../support/fleet/fleet.ts';
import { TcpProxy } from '../support/hostile/tcp-proxy.ts';
import { needs } from '../support/means.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { until } from '../support/until.ts';

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const ONE = id(1);
const TWO = id(2);
const THREE = id(3);

function hostEntry(name: string) {
  return put(hostKey(name), hostValue({ name, address: name, identity: '', version: '1', instance: name }));
}

function domainEntry(host: string, at: number) {
  return put(domainKey(id(at)), domainValue({ name: `vm-${at}`, host, instance: host }));
}

/** An etcd in a folder of its own. */
async function etcdServer(args: readonly string[] = []) {
  const dir = await testDir('bj-etcd-');
  const server = await EtcdServer.start({ dir: dir.path, args });
  return Object.assign(server, {
    [Symbol.asyncDispose]: async () => {
      await server.signal('SIGKILL');
      await dir[Symbol.asyncDispose]();
    },
  });
}

describe.skipIf(needs('etcd'))('agents in the directory', { concurrent: true }, () => {
  it('are found with their domains, by UUID and by name', async () => {
    await using server = await etcdServer();
    await using gateway = await Gateway.on(server.url);
    await using a = Member.on(server.url, 'a');
    await a.join();
    await a.own(ONE, TWO);
    await gateway.until('both', () => gateway.find(ONE).is === 'one' && gateway.find(TWO).is === 'one');
    expect(gateway.find(ONE.toUpperCase())).toMatchObject({
      domain: { id: ONE, name: `vm-${ONE}`, host: 'a' },
      host: { name: 'a', address: 'a:50051', identity: 'spiffe://test/a', version: '1' },
    });
    expect(gateway.find(`vm-${TWO}`)).toMatchObject({ is: 'one', domain: { id: TWO } });
    expect(gateway.find('vm-of-nobody')).toEqual({ is: 'none' });
    expect(gateway.hosts().map(({ name }) => name)).toEqual(['a']);
    expect(await a.verdict(ONE, gateway.domain(ONE).epoch)).toBe('may by directory');
    expect(await a.verdict(ONE, gateway.domain(ONE).epoch - 1n)).toBe('other-epoch');
    a.run(TWO);
    await gateway.until('that one has ended', () => gateway.find(ONE).is === 'none');
    expect(await a.verdict(ONE)).toBe('not-owner: undefined');
    expect(await a.verdict(TWO)).toBe('may by directory');
  });

  it('are forgotten within their TTL and a second after they are killed; their domains are not', async () => {
    await using server = await etcdServer();
    await using gateway = await Gateway.on(server.url);
    for (const ttl of [2, 5]) {
      await using a = await MemberProcess.on(server.url, 'a', ttl, [ONE]);
      await gateway.until('it', () => gateway.host('a') !== undefined);
      expect(await a.signal('SIGKILL')).toBe('SIGKILL');
      await gateway.until('that it is gone', () => gateway.host('a') === undefined, ttl * 1000 + 1000);
      expect(gateway.find(ONE)).toMatchObject({ is: 'one', domain: { host: 'a' }, host: undefined });
    }
  });

  it('leave at once, with nothing left open, at an orderly end', async () => {
    await using server = await etcdServer();
    await using gateway = await Gateway.on(server.url);
    await using a = await MemberProcess.on(server.url, 'a', 30, [ONE]);
    await gateway.until('it', () => gateway.host('a') !== undefined);
    expect(await a.signal('SIGTERM')).toBe(0);
    await gateway.until('that it is gone', () => gateway.host('a') === undefined, 10_000);
    expect(gateway.domain(ONE).host).toBe('a');
  });

  it('come back at once after a crash, with their epochs, and give up domains that have ended meanwhile', async () => {
    await using server = await etcdServer();
    await using gateway = await Gateway.on(server.url);
    await using before = await MemberProcess.on(server.url, 'a', 30, [ONE, TWO]);
    await gateway.until('both', () => gateway.find(ONE).is === 'one' && gateway.find(TWO).is === 'one');
    const { epoch } = gateway.domain(ONE);
    await before.signal('SIGKILL');
    await using after = Member.on(server.url, 'a');
    // Until all are known nothing is given up, and known domains can be changed.
    after.advertise([], { complete: false });
    await after.join(AbortSignal.timeout(10_000));
    after.advertise([{ id: ONE, name: `name of ${ONE}` }], { complete: false });
    await until('that it has one', after.changes, () => after.owns(ONE));
    expect(await server.keys(domainKey(''))).toEqual([domainKey(ONE), domainKey(TWO)]);
    after.advertise([{ id: ONE, name: `name of ${ONE}` }], { complete: true });
    await gateway.until('that one has ended', () => gateway.find(TWO).is === 'none');
    expect(gateway.domain(ONE).epoch).toBe(epoch);
    expect(await after.verdict(ONE, epoch)).toBe('may by directory');
    expect(await server.ctl('get', ownedKey('a'), '--print-value-only')).toBe(JSON.stringify([ONE]));

    // An agent that does not know yet which VMs run gives up nothing.
    await after[Symbol.asyncDispose]();
    await using slow = Member.on(server.url, 'a');
    await slow.join();
    expect(await server.keys(domainKey(''))).toEqual([domainKey(ONE)]);
    slow.advertise([{ id: ONE, name: `name of ${ONE}` }], { complete: true });
    expect(await slow.verdict(ONE, epoch)).toBe('may by directory');
  });

  it('are refused if another one has their name, which is not disturbed, and let in when it has gone', async () => {
    await using server = await etcdServer();
    await using first = Member.on(server.url, 'a');
    await first.join();
    await first.own(ONE);
    await using second = Member.on(server.url, 'a', { instance: 'another', ttlSeconds: 2 });
    second.run(ONE);
    await expect(second.join()).rejects.toThrow(HostNameTaken);
    expect(second.standing).toMatchObject({ is: 'refused' });
    expect(await second.verdict(ONE)).toBe('not-known');
    expect(await first.verdict(ONE)).toBe('may by directory');
    await first[Symbol.asyncDispose]();
    await until('that it is let in', second.changes, () => second.standing.is === 'member');
    await until('that it has the domain', second.changes, () => second.owns(ONE));
  });

  it('yield to a newer process of the same instance, and do not fight for the name', async () => {
    await using server = await etcdServer();
    await using older = Member.on(server.url, 'a');
    await older.join();
    await older.own(ONE);
    await using newer = Member.on(server.url, 'a');
    await newer.own(ONE);
    await until('that it yields', older.changes, () => older.standing.is === 'refused');
    expect(await older.verdict(ONE)).toBe('not-known');
    expect(await newer.verdict(ONE)).toBe('may by directory');
    expect(newer.standing).toEqual({ is: 'member' });
  });
});

describe.skipIf(needs('etcd'))('the ownership of a domain', () => {
  it('goes to the host that has seen it arrive, at a higher epoch, and the other one learns it and refuses', async () => {
    await using server = await etcdServer();
    await using gateway = await Gateway.on(server.url);
    await using a = Member.on(server.url, 'a');
    await using b = Member.on(server.url, 'b');
    await a.own(ONE);
    await gateway.until('it', () => gateway.find(ONE).is === 'one');
    const { epoch } = gateway.domain(ONE);

    // It also runs on b, which takes nothing from a.
    b.run(ONE);
    expect(await b.verdict(ONE)).toBe('not-owner: a');
    expect(await a.verdict(ONE)).toBe('may by directory');

    b.arrived(ONE);
    await until('that b has it', b.changes, () => b.owns(ONE));
    // No event has come to a yet, or only just: a asks etcd.
    expect(await a.verdict(ONE, epoch)).toBe('not-owner: b');
    await until('that a knows', a.changes, () => !a.owns(ONE));
    await gateway.until('the new owner', () => gateway.domain(ONE).host === 'b');
    expect(gateway.domain(ONE).epoch).toBeGreaterThan(epoch);
    expect(await b.verdict(ONE, epoch)).toBe('other-epoch');
    expect(await b.verdict(ONE, gateway.domain(ONE).epoch)).toBe('may by directory');
    expect(domainOf(await gateway.lookAgain(ONE, { timeoutMs: 10_000 }))).toEqual(gateway.domain(ONE));

    // Its QEMU there ends. That is not the end of the domain, nor does an arrival count twice.
    a.run();
    await a.own(TWO);
    expect(gateway.domain(ONE).host).toBe('b');
    a.run(ONE, TWO);
    expect(await a.verdict(ONE)).toBe('not-owner: b');
    a.arrived(ONE);
    await until('that a has it again', a.changes, () => a.owns(ONE));
    await until('that b knows', b.changes, () => !b.owns(ONE));
    expect(await b.verdict(ONE)).toBe('not-owner: a');
  });

  it('moves to the host that runs it when the owner is gone; an owner that was cut off has refused before, and takes nothing back', async () => {
    await using server = await etcdServer();
    await using proxy = await TcpProxy.to(server.port);
    await using a = Member.on(proxy.url, 'a');
    await using b = Member.on(server.url, 'b');
    await a.own(ONE);
    await b.join();
    b.run(ONE);
    expect(await b.verdict(ONE)).toBe('not-owner: a');
    proxy.hole();
    expect(await a.verdict(ONE)).toBe('may by lease');
    await until('that b has it', b.changes, () => b.owns(ONE));
    // Its own lease is over before etcd's.
    expect(await a.verdict(ONE)).toBe('not-known');
    proxy.pass();
    await until('that a is back', a.changes, () => a.standing.is === 'member' && !a.owns(ONE), 15_000);
    expect(await a.verdict(ONE)).toBe('not-owner: b');
    expect(await b.verdict(ONE)).toBe('may by directory');
  });

  it('has one winner of many that see it arrive, and of many that find it free', async () => {
    await using server = await etcdServer();
    await using all = new AsyncDisposableStack();
    using etcd = new Etcd({ endpoints: [server.url] });
    const names = ['a', 'b', 'c', 'd', 'e'];
    const members = names.map((name) => all.use(Member.on(server.url, name)));
    await Promise.all(members.map((one) => one.join()));
    for (const domain of [ONE, TWO, THREE]) {
      for (const one of members) {
        one.run(domain);
        if (domain !== ONE) one.arrived(domain);
      }
      // If the domain arrives at several, each takes it from the earlier one; the last one has it, as all say then.
      const agree = async () => {
        const verdicts = await Promise.all(members.map((one) => one.verdict(domain)));
        const winner = names[verdicts.indexOf('may by directory')];
        return verdicts.filter((one) => one === `not-owner: ${winner}`).length === names.length - 1 || undefined;
      };
      await eventually(`one winner of ${domain}`, agree, 25_000);
      if (domain !== ONE) continue;
      // A free domain was claimed once: nobody overwrote the winner, even for a moment.
      const entries = await entriesIn(etcd, { key: domainKey(ONE) });
      expect(entries.map(({ modRevision, createRevision }) => modRevision - createRevision)).toEqual([0n]);
    }
  });

  it('is not given up by the former owner when another has just taken it', async () => {
    await using server = await etcdServer();
    await using a = Member.on(server.url, 'a');
    await using b = Member.on(server.url, 'b');
    await b.own(THREE);
    for (let round = 0; round < 10; round += 1) {
      const moving = Array.from({ length: 20 }, (_, at) => id(100 + round * 20 + at));
      await a.own(...moving);
      // One host releases them, and the other one takes them, at the same moment.
      a.run();
      b.run(...moving);
      for (const one of moving) b.arrived(one);
      await until('that b has them', b.changes, () => moving.every((one) => b.owns(one)));
      await a.untilVerdict('not-owner: undefined', moving[0] ?? '');
      expect(await Promise.all(moving.map((one) => b.verdict(one)))).toEqual(moving.map(() => 'may by directory'));
    }
  });

  it('is learnt again, with its epoch, if a person has overwritten it by hand', async () => {
    await using server = await etcdServer();
    await using gateway = await Gateway.on(server.url);
    await using a = Member.on(server.url, 'a');
    await a.own(ONE);
    await gateway.until('it', () => gateway.find(ONE).is === 'one');
    const { epoch } = gateway.domain(ONE);
    const rewrite = async () => {
      const before = gateway.domain(ONE).epoch;
      await server.put(domainKey(ONE), domainValue({ name: `vm-${ONE}`, host: 'a', instance: 'of a' }));
      await gateway.until('the rewriting', () => gateway.domain(ONE).epoch > before);
      return gateway.domain(ONE).epoch;
    };

    // A gateway may hear of it before the owner. Then the gateway is not believed more than etcd.
    const second = await rewrite();
    expect(await a.verdict(ONE, second)).toBe('may by directory');
    expect(await a.verdict(ONE, epoch)).toBe('other-epoch');
    expect(await a.verdict(ONE, second + 1n)).toBe('other-epoch');
    expect(await a.verdict(ONE, second)).toBe('may by directory');

    // Or after it: etcd itself says that the entry has changed.
    const third = await rewrite();
    expect(await a.verdict(ONE, second)).toBe('not-owner: undefined');
    expect(await a.verdict(ONE, third)).toBe('may by directory');
    expect(await a.verdict(ONE)).toBe('may by directory');
  });

  it('is not taken over from an entry that nobody understands', async () => {
    await using server = await etcdServer();
    await server.put(domainKey(ONE), 'of another time');
    await server.put(hostKey('odd'), '[]');
    await using gateway = await Gateway.on(server.url);
    expect(gateway.find(ONE)).toEqual({ is: 'none' });
    expect(gateway.hosts()).toEqual([]);
    await using a = Member.on(server.url, 'a');
    await a.own(TWO);
    a.run(ONE, TWO);
    expect(await a.verdict(ONE)).toBe('not-owner: undefined');
    await server.ctl('del', domainKey(ONE));
    await until('that it is free', a.changes, () => a.owns(ONE));
  });
});

describe.skipIf(needs('etcd'))('when etcd', { concurrent: true }, () => {
  it('is down, gateways route from memory, and agents act until their lease is over; then everything recovers by itself', async () => {
    await using server = await etcdServer();
    await using gateway = await Gateway.on(server.url);
    await using a = Member.on(server.url, 'a');
    await a.own(ONE, TWO);
    await gateway.until('both', () => gateway.find(ONE).is === 'one' && gateway.find(TWO).is === 'one');
    const known = [gateway.find(ONE), gateway.find(TWO)];

    await server.signal('SIGKILL');
    expect(await a.verdict(ONE)).toBe('may by lease');
    await gateway.until('that it is not live', () => !gateway.freshness.live);
    await a.untilVerdict('not-known', ONE);
    expect([gateway.find(ONE), gateway.find(TWO)]).toEqual(known);
    expect(gateway.freshness).toMatchObject({
      live: false,
      why: expect.stringMatching(/ECONNREFUSED|UNAVAILABLE|drop/i),
    });
    expect(gateway.freshness).toHaveProperty('forMs', expect.closeTo(2_500, -4));
    await expect(gateway.lookAgain(ONE, { timeoutMs: 200 })).rejects.toThrow(/did not answer/);
    // Meanwhile one domain ends and one begins.
    a.run(ONE, THREE);

    await server.start();
    await server.compact();
    await gateway.until('that it is live, with what is new', () => {
      return gateway.freshness.live && gateway.find(THREE).is === 'one' && gateway.find(TWO).is === 'none';
    });
    expect(gateway.find(ONE)).toEqual(known[0]);
    await a.untilVerdict('may by directory', ONE, gateway.domain(ONE).epoch);
  });

  it('is down, starting agents are not let in, and say why; they are let in as soon as it is back', async () => {
    await using server = await etcdServer();
    await server.signal('SIGKILL');
    await using a = Member.on(server.url, 'a');
    a.run(ONE);
    await expect(a.join(AbortSignal.timeout(200))).rejects.toThrow(/timeout/);
    expect(await a.verdict(ONE)).toBe('not-known');
    await server.start();
    await a.join(AbortSignal.timeout(15_000));
    await until('that it has its domain', a.changes, () => a.owns(ONE));
  });

  it('was restored from a backup, agents claim the forgotten domains again, and give up those that end', async () => {
    await using server = await etcdServer();
    await using a = Member.on(server.url, 'a');
    await a.own(ONE);
    const restore = await server.backUp();
    await a.untilVerdict('may by directory', ONE);
    await a.own(ONE, TWO);
    await a.own(ONE, TWO, THREE);
    await restore();
    for (const one of [ONE, TWO, THREE]) await a.untilVerdict('may by directory', one);
    expect(await server.keys(domainKey(''))).toEqual([ONE, TWO, THREE].map((one) => domainKey(one)));
    a.run(TWO);
    await using gateway = await Gateway.on(server.url);
    await gateway.until('the end of two', () => [...gateway.domains()].length === 1);
    expect(await a.verdict(TWO)).toBe('may by directory');
  });

  it('hangs, agents still answer in time', async () => {
    await using server = await etcdServer();
    await using a = Member.on(server.url, 'a', { ttlSeconds: 10 });
    await a.own(ONE);
    await server.signal('SIGSTOP');
    try {
      const before = performance.now();
      expect(await a.verdict(ONE)).toBe('may by lease');
      // It has a second. etcd's client alone would wait for five.
      expect(performance.now() - before).toBeLessThan(4_000);
    } finally {
      await server.signal('SIGCONT');
    }
    await a.untilVerdict('may by directory', ONE);
  });

  it('is full, members stay; new ones get an error, and are let in when there is space again', async () => {
    await using server = await etcdServer(['--quota-backend-bytes', '2000000']);
    await using gateway = await Gateway.on(server.url);
    await using a = Member.on(server.url, 'a');
    await a.own(ONE, TWO);
    using filler = new Etcd({ endpoints: [server.url] });
    const fill = async () => {
      for (let at = 0; at < 50; at += 1)
        await filler.txn({ when: [], ifSo: [put(`/fill/${at}`, 'x'.repeat(200_000))] });
    };
    await expect(fill()).rejects.toThrow(/database is full/);
    await using b = Member.on(server.url, 'b');
    await until('that b hears why', b.changes, () => b.standing.is === 'joining' && /full/.test(b.standing.why));
    expect(await a.verdict(ONE)).toBe('may by directory');
    // Longer than the lease: it is renewed.
    await sleep(4_000);
    expect(gateway.host('a')).toBeDefined();
    // Deletions are accepted nevertheless.
    await server.compact('del', '/fill/', '--prefix');
    await server.ctl('defrag');
    await server.ctl('alarm', 'disarm');
    await b.join(AbortSignal.timeout(10_000));
  });
});

describe.skipIf(needs('etcd'))('a gateway that was cut off until etcd has forgotten the changes', () => {
  it('routes from memory meanwhile; then it knows each new entry, and no entry that was removed', async () => {
    await using server = await etcdServer();
    await using proxy = await TcpProxy.to(server.port);
    using writer = new Etcd({ endpoints: [server.url] });
    await writer.txn({
      when: [],
      ifSo: [hostEntry('h1'), hostEntry('h2'), domainEntry('h1', 1), domainEntry('h2', 2)],
    });
    await using gateway = await Gateway.on(proxy.url);
    proxy.cut();
    await gateway.until('that it is cut off', () => !gateway.freshness.live);
    await server.ctl('del', domainKey(ONE));
    await server.ctl('del', hostKey('h1'));
    await writer.txn({ when: [], ifSo: [domainEntry('h2', 3)] });
    await server.compact();
    expect(gateway.find('vm-1')).toMatchObject({ is: 'one', host: { name: 'h1' } });
    proxy.pass();
    await gateway.until('the one that has come', () => gateway.find('vm-3').is === 'one');
    await gateway.until(
      'the end of the others',
      () => gateway.find('vm-1').is === 'none' && gateway.host('h1') === undefined,
    );
    expect([...gateway.domains()].map(({ name }) => name)).toEqual(['vm-2', 'vm-3']);
    expect(gateway.hosts().map(({ name }) => name)).toEqual(['h2']);
    expect(gateway.missing()).toEqual([]);
    expect(gateway.find(ONE)).toEqual({ is: 'none' });
  });
});

describe.skipIf(needs('etcd'))('a fleet of 1,000 hosts with 50 domains each', () => {
  it('is in the memory of a gateway within seconds, and stays correct', async () => {
    await using server = await etcdServer();
    using writer = new Etcd({ endpoints: [server.url] });
    for (let n = 0; n < 1_000; n += 1) {
      const host = { name: `host-${n}`, address: `10.0.0.1:${n}`, identity: '', version: '1', instance: `i-${n}` };
      const domains = Array.from({ length: 50 }, (_, at) => ({ name: `vm-${n}-${at}`, id: id(n * 50 + at) }));
      const ifSo = domains.map((one) =>
        put(domainKey(one.id), domainValue({ ...one, host: host.name, instance: 'x' })),
      );
      await writer.txn({ when: [], ifSo: [put(hostKey(host.name), hostValue(host)), ...ifSo] });
    }
    const heapBefore = process.memoryUsage().heapUsed;
    const begin = performance.now();
    await using gateway = await Gateway.on(server.url);
    const ms = Math.round(performance.now() - begin);
    const heapMb = Math.round((process.memoryUsage().heapUsed - heapBefore) / 1e6);
    console.info(`51,000 entries: ${ms} ms, ${heapMb} MB of heap, before any is collected`);
    expect(gateway.hosts()).toHaveLength(1_000);
    expect([...gateway.domains()]).toHaveLength(50_000);
    expect(gateway.find('vm-999-49')).toMatchObject({ is: 'one', host: { address: '10.0.0.1:999' } });
    expect(ms).toBeLessThan(20_000);
    await server.ctl('del', domainKey(id(7)));
    await gateway.until('a deletion', () => gateway.find(id(7)).is === 'none', 10_000);
  });
});
