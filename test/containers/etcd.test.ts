/** The effect on a fleet if etcd dies, forgets, or is full. */
import { setTimeout } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Job_State, OnReady } from '../../generated/blockjob/v1/job.ts';
import { eventuallyAnswers } from '../support/docker/eventually-answers.ts';
import type { Host } from '../support/docker/host.ts';
import { TTL_MS } from '../support/docker/roles.ts';
import { follow } from '../support/docker/site-caller.ts';
import { siteOfSuite } from '../support/docker/suite.ts';
import { needs } from '../support/means.ts';
import { within } from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';

const QUOTA_BYTES = 32 << 20;
const AWAY_MS = 60_000;
/** The time for which an agent waits for an answer of etcd. */
const PATIENCE_MS = 3000;
const HEALS_MS = 15_000;
const UNAVAILABLE = 14;
const TO = '/var/lib/images/without-etcd.qcow2';

describe.skipIf(needs('docker'))('a fleet whose etcd', () => {
  const suite = siteOfSuite({ etcd: ['--quota-backend-bytes', String(QUOTA_BYTES)] });

  it('is down for a minute during copies: calls are routed from memory, changes are refused, jobs end truthfully, and everything recovers', async () => {
    const { site, started } = suite;
    using first = await site.caller(site.gateways[0]);
    using second = await site.caller(site.gateways[1]);
    const copyOf = async (host: Host, mibPerSecond: number, onReady: OnReady) => {
      const [{ name }] = host.vms;
      const { id } = await first.copy(name, TO, { mibPerSecond, onReady });
      started.push(id);
      return { host, name, id };
    };
    const [h1, h2, h3] = site.hosts;
    const ready = await copyOf(h1, 3, OnReady.ON_READY_HOLD);
    // 48 MiB: one job ends by itself during the outage, and one still runs when etcd is back.
    const ends = await copyOf(h2, 1.2, OnReady.ON_READY_FINISH);
    const goesOn = await copyOf(h3, 0.25, OnReady.ON_READY_HOLD);
    const copies = [ready, ends, goesOn];
    const watches = await Promise.all(copies.map(async ({ id }) => await follow([second], id)));
    await site.etcd.kill();
    const diedAt = performance.now();
    await eventuallyAnswers('changes are refused when the leases are over', TTL_MS + PATIENCE_MS, async () => {
      const { reason } = await refused(second.pivot(ready.id));
      return reason === 'DIRECTORY_UNREACHABLE' || undefined;
    });
    while (performance.now() - diedAt < AWAY_MS) {
      for (const caller of [first, second]) {
        const { domains, unreachableHosts } = await caller.allDomains();
        expect({ domains: domains.length, unreachableHosts }).toEqual({ domains: 6, unreachableHosts: [] });
        for (const { host, name, id } of copies) {
          expect((await caller.getDomain(name)).host).toBe(host.name);
          expect((await caller.getInfo(id)).host).toBe(host.name);
        }
        expect((await refused(caller.getDomain('nobody'))).reason).toBe('DIRECTORY_UNREACHABLE');
        const asked = performance.now();
        const answer = await refused(caller.copy('h1-b', '/var/lib/images/refused.qcow2', { mibPerSecond: 1 }));
        expect(answer).toMatchObject({ code: UNAVAILABLE, reason: 'DIRECTORY_UNREACHABLE' });
        expect(performance.now() - asked).toBeLessThan(PATIENCE_MS + 1000);
      }
      await setTimeout(5000);
    }
    expect((await first.getInfo(ready.id)).state).toBe(Job_State.STATE_READY);
    expect((await first.getInfo(ends.id)).state).toBe(Job_State.STATE_COMPLETED);
    expect((await first.getInfo(goesOn.id)).state).toBe(Job_State.STATE_RUNNING);
    await h2.expectBytes(TO, 1, '0', '48M');

    await site.etcd.start();
    await site.observer.watchAgain();
    const again = await eventuallyAnswers('it may be pivoted again', HEALS_MS, async () => await first.pivot(ready.id));
    expect(again.outcome?.guestWritesTo).toBe(TO);
    await eventuallyAnswers('that one too', HEALS_MS, async () => await second.setSpeed(goesOn.id, 0n));
    await eventuallyAnswers('it is ready', 10_000, async () => {
      return (await second.getInfo(goesOn.id)).state === Job_State.STATE_READY || undefined;
    });
    expect((await second.pivot(goesOn.id)).outcome?.guestWritesTo).toBe(TO);
    for (const { host, name } of [ready, goesOn]) expect(await host.imageOf(name)).toBe(TO);
    const ended = await within(10_000, 'the watches', Promise.all(watches.map(async ({ end }) => await end)));
    expect(ended.map(({ state }) => state)).toEqual(copies.map(() => Job_State.STATE_COMPLETED));
    // A client that sees the value written now also sees that hosts and owners have not changed.
    await site.etcd.exec('etcdctl', 'put', '/blockjob/v1/now', '{}');
    await eventuallyAnswers('it is seen', 5000, async () => {
      return (await site.observer.seen()).find(({ key }) => key === 'now');
    });
    for (const { name, vms } of site.hosts) {
      expect((await site.observer.ofHost(name)).length).toBe(1);
      for (const { uuid } of vms) expect((await site.observer.ownersOf(uuid)).length).toBe(1);
    }
  }, 150_000);

  it('is restarted and compacted while a gateway is cut off: the gateway notices that it has missed events', async () => {
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
    await eventuallyAnswers(
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
      await eventuallyAnswers('it knows that the host has left', 20_000, async () => {
        const { message } = await refused(caller.getDomain(h3.vms[0].name));
        return message.includes('its agent is not in the directory') || undefined;
      });
      const { domains, unreachableHosts } = await caller.allDomains();
      expect({ domains: domains.length, unreachableHosts }).toEqual({ domains: 4, unreachableHosts: ['h3'] });
    }
    await h3.startAgent();
    await site.isWhole(20_000);
  });

  it('is full: existing hosts continue, an agent that starts waits for room, and everything recovers', async () => {
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
    await eventuallyAnswers('the copy is ready', 20_000, async () => {
      return (await caller.getInfo(id)).state === Job_State.STATE_READY || undefined;
    });
    expect((await caller.pivot(id)).outcome?.guestWritesTo).toBe(to);
    expect(await h1.imageOf(name)).toBe(to);

    await h2.signalAgent('TERM');
    await h2.startAgent();
    using direct = await site.agent(h2);
    const refusal = await eventuallyAnswers('it answers', 20_000, async () => {
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
