/**
 * The answer that an agent gets right before it changes a disk, if etcd is late, from the past, full of large values,
 * or silent: two hosts are never both allowed, and a host that cannot know is refused.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BlockJobError } from '../../src/core/errors.ts';
import { domainKey } from '../../src/fleet/directory/layout.ts';
import { Etcd } from '../../src/fleet/etcd/client.ts';
import { put } from '../../src/fleet/etcd/transactions.ts';
import { Fence } from '../../src/fleet/membership/fence.ts';
import { EtcdServer } from '../support/fleet/etcd.ts';
import { Member } from '../support/fleet/fleet.ts';
import { TcpProxy } from '../support/hostile/tcp-proxy.ts';
import { needs } from '../support/means.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { until } from '../support/until.ts';

const ONE = '00000000-0000-4000-8000-000000000001';
const { signal } = new AbortController();

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

/** An agent acts on the answer: it changes the disk, or says why not. */
async function change(member: Member, host: string): Promise<string> {
  try {
    await new Fence(member, host).mayChange({ name: `vm-${ONE}`, uuid: ONE }, { signal });
    return 'changes it';
  } catch (error) {
    if (error instanceof BlockJobError) return `${error.reason}: ${error.failure.text}`;
    throw error;
  }
}

/** Asks again and again, and returns the last answers of both. They may never both be allowed. */
async function untilOneMay(a: Member, b: Member): Promise<readonly [string, string]> {
  const by = performance.now() + 30_000;
  for (;;) {
    const told = await Promise.all([change(a, 'a'), change(b, 'b')]);
    expect(told).not.toEqual(['changes it', 'changes it']);
    if (told.includes('changes it')) return told;
    if (performance.now() > by) throw new Error(`nobody may: ${told.join(' / ')}`);
    await sleep(20);
  }
}

describe.skipIf(needs('etcd'))('when etcd', () => {
  it.concurrent('answers late, the late answer is not believed: another host owns the domain by now', async () => {
    await using server = await etcdServer();
    await using proxy = await TcpProxy.to(server.port);
    await using a = Member.on(proxy.url, 'a', { ttlSeconds: 3 });
    await using b = Member.on(server.url, 'b');
    await a.own(ONE);
    b.run(ONE);
    await until('that b sees whose it is', b.changes, () => !b.owns(ONE));
    proxy.late();
    // etcd answers at once, and a gets the answer when its lease is over and b has the domain.
    const asked = a.mayAct(ONE, { timeoutMs: 30_000 });
    expect(await b.verdict(ONE)).toBe('not-owner: a');
    proxy.deaf();
    await until('that b has it', b.changes, () => b.owns(ONE), 20_000);
    expect(await change(b, 'b')).toBe('changes it');
    proxy.pass();
    expect(await asked).toMatchObject({ may: false });
    expect(await change(a, 'a')).not.toBe('changes it');
  });

  it.concurrent('is from the past, two hosts that have the domain there and here never both change it', async () => {
    await using server = await etcdServer();
    await using a = Member.on(server.url, 'a');
    await using b = Member.on(server.url, 'b');
    await a.own(ONE);
    const restore = await server.backUp();
    await a.untilVerdict('may by directory', ONE);
    // The guest migrates, and its old QEMU still runs.
    b.arrived(ONE);
    await b.own(ONE);
    expect(await change(b, 'b')).toBe('changes it');
    expect(await change(a, 'a')).toMatch('NOT_OWNER: host a does not own domain');
    await restore();
    const told = await untilOneMay(a, b);
    expect(told.filter((one) => one === 'changes it')).toHaveLength(1);
  });

  it.concurrent('does not answer at all, the holder of a lease changes only its own domains, and nothing after the lease', async () => {
    await using server = await etcdServer();
    await using proxy = await TcpProxy.to(server.port);
    await using a = Member.on(proxy.url, 'a', { ttlSeconds: 10 });
    await using b = Member.on(server.url, 'b');
    await a.own(ONE);
    proxy.hole();
    b.run(ONE);
    const [first] = await untilOneMay(a, b);
    // Nobody else can have it yet.
    expect(first).toBe('changes it');
    await until('that b has it', b.changes, () => b.owns(ONE), 20_000);
    expect(await change(a, 'a')).toMatch(/^DIRECTORY_UNREACHABLE: the directory does not answer/);
    expect(await change(b, 'b')).toBe('changes it');
  });

  // As large as etcd accepts by default, and larger than its clients accept.
  it.each([1_400_000, 6_000_000])('has a value of %d bytes where the domain was, nobody changes it', async (bytes) => {
    await using server = await etcdServer(['--max-request-bytes', '12000000']);
    await using a = Member.on(server.url, 'a', { ttlSeconds: 10 });
    using other = new Etcd({ endpoints: [server.url] });
    await a.own(ONE);
    await other.txn({ when: [], ifSo: [put(domainKey(ONE), 'x'.repeat(bytes))] });
    expect(await change(a, 'a')).toMatch(/^(NOT_OWNER|OWNER_UNKNOWN|DIRECTORY_UNREACHABLE): /);
  });
});
