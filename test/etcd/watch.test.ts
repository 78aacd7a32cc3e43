/** The events that a watcher gets from a real etcd, whatever happens meanwhile. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Etcd } from '../../src/fleet/etcd/client.ts';
import type { KeyRange } from '../../src/fleet/etcd/keys.ts';
import { put } from '../../src/fleet/etcd/transactions.ts';
import { Watcher } from '../../src/fleet/etcd/watcher.ts';
import { Wake } from '../../src/lib/wake.ts';
import { EtcdServer } from '../support/fleet/etcd.ts';
import { TcpProxy } from '../support/hostile/tcp-proxy.ts';
import { needs } from '../support/means.ts';
import { type TestDir, testDir } from '../support/real-qemu/qemu.ts';
import { until } from '../support/until.ts';

/** A watcher of one range, and what it has heard. */
class Listening implements AsyncDisposable {
  readonly changes = new Wake();
  readonly etcd: Etcd;
  readonly entries = new Map<string, string>();
  /** The values of all changes, in order; those of deletions are empty. */
  readonly heard: string[] = [];
  resets = 0;
  /** How often a connection was given up because nothing came. */
  silences = 0;
  live = false;
  onChange: () => void = () => {};
  readonly #watcher: Watcher;

  constructor(endpoint: string, range: KeyRange) {
    this.etcd = new Etcd({ endpoints: [endpoint] });
    this.#watcher = new Watcher(this.etcd, (live, why) => {
      this.live = live;
      this.silences += why?.message.includes('silent') ? 1 : 0;
      this.changes.notify();
    });
    this.#watcher.follow(range, {
      begins: () => {
        this.resets += 1;
        this.entries.clear();
      },
      page: (entries) => {
        for (const { key, value } of entries) this.entries.set(key, value);
        this.changes.notify();
      },
      changed: (changes) => {
        for (const { key, entry } of changes) {
          this.heard.push(entry?.value ?? '');
          if (entry === undefined) this.entries.delete(key);
          else this.entries.set(key, entry.value);
        }
        this.onChange();
        this.changes.notify();
      },
    });
    this.#watcher.start();
  }

  async until(what: string, done: () => boolean, ms?: number): Promise<void> {
    await until(what, this.changes, done, ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watcher[Symbol.asyncDispose]();
    this.etcd[Symbol.dispose]();
  }
}

describe.skipIf(needs('etcd'))('a watcher', () => {
  let dir: TestDir;
  let server: EtcdServer;

  beforeAll(async () => {
    dir = await testDir('bj-etcd-');
    server = await EtcdServer.start({ dir: dir.path });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  });

  /** Writes the numbers from 1, one transaction each, past the proxy. */
  async function count(prefix: string, last: number): Promise<string[]> {
    using writer = new Etcd({ endpoints: [server.url] });
    const numbers = Array.from({ length: last }, (_, at) => String(at + 1));
    for (const number of numbers) await writer.txn({ when: [], ifSo: [put(`${prefix}${Number(number) % 7}`, number)] });
    return numbers;
  }

  it('hears every change once and in order, though its connection is cut after each message', async () => {
    await using proxy = await TcpProxy.to(server.port);
    await using one = new Listening(proxy.url, { prefix: '/cut/' });
    await one.until('live', () => one.live);
    let cuts = 0;
    one.onChange = () => {
      if (one.heard.length < (cuts + 1) * 100) return;
      cuts += 1;
      proxy.cut();
      proxy.pass();
    };
    const numbers = await count('/cut/', 2_000);
    await one.until('the last change', () => one.heard.at(-1) === '2000', 30_000);
    expect(one.heard).toEqual(numbers);
    expect(one.resets).toBe(1);
    expect(cuts).toBeGreaterThan(3);
  });

  it('begins again, whatever it was doing when its connection was cut', async () => {
    await using proxy = await TcpProxy.to(server.port);
    await using one = new Listening(proxy.url, { prefix: '/moments/' });
    await one.until('live', () => one.live);
    for (let round = 0; round < 100; round += 1) {
      proxy.cut();
      await one.until('that it is cut off', () => !one.live);
      proxy.pass();
      // The cut comes while it waits, connects, asks or opens: chance, and the pauses between attempts, decide.
      await sleep(round % 60);
      proxy.cut();
      proxy.pass();
      await one.until(`live after ${round} cuts`, () => one.live);
    }
    // It was the cut that was noticed.
    expect(one.silences).toBe(0);
    await server.put('/moments/a', 'last');
    await one.until('the following events', () => one.heard.length > 0);
    expect(one.heard).toEqual(['last']);
  });

  it('finds the missed changes if etcd has forgotten them: a new key, and one that is gone', async () => {
    await server.put('/compact/stays', '1');
    await server.put('/compact/goes', '1');
    await using proxy = await TcpProxy.to(server.port);
    await using one = new Listening(proxy.url, { prefix: '/compact/' });
    await one.until('live', () => one.live);
    proxy.cut();
    await one.until('that it is cut off', () => !one.live);
    await server.ctl('del', '/compact/goes');
    await server.put('/compact/comes', '1');
    await server.compact();
    proxy.pass();
    await one.until('the existing entries', () => one.live && one.entries.has('/compact/comes'));
    expect([...one.entries.keys()]).toEqual(['/compact/comes', '/compact/stays']);
    await server.put('/compact/later', '1');
    await one.until('later events', () => one.entries.has('/compact/later'));
  });

  it('continues where it was when etcd was killed and is back', async () => {
    await using one = new Listening(server.url, { prefix: '/restart/' });
    await one.until('live', () => one.live);
    await server.put('/restart/a', 'before');
    await one.until('the first', () => one.heard.length === 1);
    await server.restart();
    await server.put('/restart/a', 'after');
    await one.until('the second', () => one.heard.length === 2);
    expect(one.heard).toEqual(['before', 'after']);
    expect(one.resets).toBe(1);
  });

  it('finds within seconds that etcd does not run, and that it runs again', async () => {
    await using one = new Listening(server.url, { prefix: '/stopped/' });
    await one.until('live', () => one.live);
    await server.signal('SIGSTOP');
    try {
      await one.until('that it is silent', () => !one.live, 20_000);
    } finally {
      await server.signal('SIGCONT');
    }
    await one.until('live again', () => one.live, 20_000);
    await server.put('/stopped/a', 'later');
    await one.until('later events', () => one.heard.length > 0);
    expect(one.heard).toEqual(['later']);
  });

  it('finds within seconds that no message comes through, and hears the missed events', async () => {
    await using proxy = await TcpProxy.to(server.port);
    await using one = new Listening(proxy.url, { prefix: '/hole/' });
    await one.until('live', () => one.live);
    proxy.hole();
    const numbers = await count('/hole/', 20);
    await one.until('that it is silent', () => !one.live, 20_000);
    expect(one.heard).toEqual([]);
    proxy.pass();
    await one.until('all of it', () => one.heard.length === 20);
    expect(one.heard).toEqual(numbers);
  });

  it('puts together a value that is too large for one message', async () => {
    await using proxy = await TcpProxy.to(server.port);
    await using one = new Listening(proxy.url, { prefix: '/large/' });
    await one.until('live', () => one.live);
    proxy.cut();
    await one.until('that it is cut off', () => !one.live);
    using writer = new Etcd({ endpoints: [server.url] });
    const values = Array.from('abcdef', (letter) => letter.repeat(1_000_000));
    for (const [at, value] of values.entries()) await writer.txn({ when: [], ifSo: [put(`/large/${at}`, value)] });
    proxy.pass();
    await one.until('all of it', () => one.heard.length === values.length);
    expect(one.heard.map((value) => `${value.slice(0, 1)} ${value.length}`)).toEqual(
      values.map((value) => `${value.slice(0, 1)} ${value.length}`),
    );
  });

  it('starts again if etcd has gone back in time', async () => {
    await server.put('/back/old', '1');
    await using one = new Listening(server.url, { prefix: '/back/' });
    await one.until('live', () => one.live && one.entries.has('/back/old'));
    await server.signal('SIGKILL');
    await one.until('that it is gone', () => !one.live);
    await rm(join(dir.path, 'data'), { recursive: true });
    await server.start();
    await server.put('/back/new', '1');
    await one.until('the current entries', () => one.entries.has('/back/new'));
    expect([...one.entries.keys()]).toEqual(['/back/new']);
  });

  it('reports the obstacle, and waits, if nothing listens', async () => {
    const reasons: string[] = [];
    const wake = new Wake();
    using etcd = new Etcd({ endpoints: ['http://127.0.0.1:1'] });
    await using watcher = new Watcher(etcd, (_live, why) => {
      reasons.push(why?.message ?? '');
      wake.notify();
    });
    watcher.start();
    await until('a reason', wake, () => reasons.length > 0, 15_000);
    expect(reasons[0]).toMatch(/ECONNREFUSED/);
  });
});
