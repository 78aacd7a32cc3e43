/** The client with real etcds: its reads, its login, and its errors. */
import { once } from 'node:events';
import { copyFile, readFile } from 'node:fs/promises';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer, type SecureVersion } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { Etcd, type EtcdOptions } from '../../src/fleet/etcd/client.ts';
import { OutcomeUnknown, Refused, Unreachable } from '../../src/fleet/etcd/errors.ts';
import { absent, modifiedAt, put, read, remove } from '../../src/fleet/etcd/transactions.ts';
import { Watcher } from '../../src/fleet/etcd/watcher.ts';
import { Wake } from '../../src/lib/wake.ts';
import { EtcdServer } from '../support/fleet/etcd.ts';
import { entriesIn } from '../support/fleet/fleet.ts';
import { TcpProxy } from '../support/hostile/tcp-proxy.ts';
import { needs } from '../support/means.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { Authority } from '../support/service/certificates.ts';
import { until } from '../support/until.ts';

/** The error of a refused call. */
async function refusal(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof Refused) return error.why;
  throw new Error(`not refused: ${String(error)}`, { cause: error });
}

/** More than two pages. */
const KEYS = 20_000;
const keyOf = (at: number) => `/many/${String(at).padStart(5, '0')}`;

/** An etcd that lets in a user who may write below /ours/, whose token lives for two seconds. */
async function withUsers(dir: string): Promise<EtcdServer> {
  const login = ['--user', 'root:secret'];
  const server = await EtcdServer.start({ dir, args: ['--auth-token-ttl', '2'], ctl: login });
  await server.ctl('user', 'add', 'root:secret');
  await server.ctl('user', 'grant-role', 'root', 'root');
  await server.ctl('user', 'add', 'blockjob:word');
  await server.ctl('role', 'add', 'blockjob');
  await server.ctl('role', 'grant-permission', 'blockjob', '--prefix=true', 'readwrite', '/ours/');
  await server.ctl('user', 'grant-role', 'blockjob', 'blockjob');
  await server.ctl('auth', 'enable');
  return server;
}

/** The events below /ours/, until it is disposed of. */
class Heard implements AsyncDisposable {
  readonly values: string[] = [];
  live = false;
  readonly #wake = new Wake();
  readonly #watcher: Watcher;

  constructor(etcd: Etcd) {
    this.#watcher = new Watcher(etcd, (live) => {
      this.live = live;
      this.#wake.notify();
    });
    this.#watcher.follow(
      { prefix: '/ours/' },
      {
        page: () => {},
        changed: (changes) => {
          this.values.push(...changes.map(({ entry }) => entry?.value ?? ''));
          this.#wake.notify();
        },
      },
    );
    this.#watcher.start();
  }

  async until(what: string, done: () => boolean): Promise<void> {
    await until(what, this.#wake, done);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watcher[Symbol.asyncDispose]();
  }
}

describe.skipIf(needs('etcd'))('the client of etcd', () => {
  it('reads a whole range at one revision, however large it is, also while others write', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    using etcd = new Etcd({ endpoints: [server.url] });
    for (let at = 0; at < KEYS; at += 100) {
      const batch = Array.from({ length: 100 }, (_, more) => put(keyOf(at + more), 'old'));
      await etcd.txn({ when: [], ifSo: batch });
    }
    const state = { reading: true };
    const reader = (async () => {
      const all = [];
      // Whole, and in parts: with several pages, with one, and with none.
      const cuts = [keyOf(9_000), keyOf(9_001), `${keyOf(9_001)}-`].map((key) => key.slice('/many/'.length));
      const ranges = [{ prefix: '/many/' }, { prefix: '/many/', cuts }, { prefix: '/many/', cuts: ['', '~'] }];
      for (const range of [...ranges, ...ranges]) all.push(await entriesIn(etcd, range));
      state.reading = false;
      return all;
    })();
    using writer = new Etcd({ endpoints: [server.url] });
    for (let times = 0; state.reading; times += 1) {
      const ifSo = Array.from({ length: 100 }, (_, more) => put(keyOf(more * 200), `new ${times}`));
      await writer.txn({ when: [], ifSo });
    }
    for (const entries of await reader) {
      expect(entries.map((one) => one.key)).toEqual(Array.from({ length: KEYS }, (_, at) => keyOf(at)));
      // Each transaction writes a hundred of them: a reader sees all or nothing of it.
      expect(new Set(entries.filter((_, at) => at % 200 === 0).map(({ value }) => value)).size).toBe(1);
    }
  });

  it('changes all or nothing, and only entries that are unchanged', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    using etcd = new Etcd({ endpoints: [server.url] });
    const made = await etcd.txn({ when: [absent('/a')], ifSo: [put('/a', '1'), put('/b', '1')] });
    expect(made.held).toBe(true);
    const again = await etcd.txn({ when: [absent('/a')], ifSo: [put('/a', '2')], ifNot: [read('/a'), read('/c')] });
    expect(again).toMatchObject({ held: false, found: [{ value: '1', modRevision: made.revision }, undefined] });
    const stale = await etcd.txn({
      when: [modifiedAt('/a', made.revision), modifiedAt('/b', made.revision - 1n)],
      ifSo: [remove('/a')],
    });
    expect(stale.held).toBe(false);
    expect(await etcd.txn({ when: [modifiedAt('/a', made.revision)], ifSo: [remove('/a')] })).toMatchObject({
      held: true,
    });
    expect(await server.keys('/')).toEqual(['/b']);
  });

  it.concurrent('goes to another member if one is gone, is cut off or hangs', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    await using first = await TcpProxy.to(server.port);
    await using second = await TcpProxy.to(server.port);
    using etcd = new Etcd({ endpoints: [first.url, 'http://127.0.0.1:1', second.url] });
    await etcd.txn({ when: [], ifSo: [put('/a', '1')] });
    for (const harm of ['cut', 'hole'] as const) {
      for (const [harmed, other] of [
        [first, second],
        [second, first],
      ] as const) {
        other.pass();
        harmed[harm]();
        // A read is repeated.
        expect(await entriesIn(etcd, { key: '/a' }, { timeoutMs: 20_000 })).toMatchObject([{ value: '1' }]);
        await etcd.txn({ when: [], ifSo: [put('/a', '1')] });
      }
    }
  });

  it.concurrent('does not repeat a change that got no answer, and says that it may have happened', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path });
    await using proxy = await TcpProxy.to(server.port);
    using etcd = new Etcd({ endpoints: [proxy.url, server.url] });
    using warm = new Etcd({ endpoints: [proxy.url] });
    await warm.txn({ when: [], ifSo: [put('/a', '1')] });
    proxy.hole();
    const change = warm.txn({ when: [], ifSo: [put('/a', '2')] }, { timeoutMs: 1_000 });
    await expect(change).rejects.toThrow(OutcomeUnknown);
    await expect(entriesIn(warm, { key: '/a' }, { timeoutMs: 1_500 })).rejects.toThrow(Unreachable);
    // A call that cannot be sent has not happened, and is tried at the next member.
    proxy.cut();
    await etcd.txn({ when: [], ifSo: [put('/a', '3')] });
    expect(await server.ctl('get', '/a', '--print-value-only')).toBe('3');
  });

  it('distinguishes a full etcd from one that is down, and may still read and delete there', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await EtcdServer.start({ dir: dir.path, args: ['--quota-backend-bytes', '2000000'] });
    using etcd = new Etcd({ endpoints: [server.url] });
    await etcd.txn({ when: [], ifSo: [put('/a', '1')] });
    const fill = async () => {
      for (let at = 0; at < 50; at += 1) await etcd.txn({ when: [], ifSo: [put(`/fill/${at}`, 'x'.repeat(200_000))] });
    };
    expect(await refusal(fill())).toBe('no-space');
    expect(await server.ctl('alarm', 'list')).toMatch(/NOSPACE/);
    expect(await refusal(etcd.grantLease(10))).toBe('no-space');
    expect(await etcd.txn({ when: [], ifSo: [remove('/a')] })).toMatchObject({ held: true });
    expect(await entriesIn(etcd, { key: '/a' })).toEqual([]);
  });

  it.concurrent('logs in by name and password, and again when its token has expired or roles have changed', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await withUsers(dir.path);
    using etcd = new Etcd({ endpoints: [server.url], login: { name: 'blockjob', password: 'word' } });
    await using heard = new Heard(etcd);
    await heard.until('live', () => heard.live);
    // etcd looks for expired tokens every second: one of two seconds that is not used is gone after three.
    await sleep(3_500);
    await etcd.txn({ when: [], ifSo: [put('/ours/a', '1')] });
    await heard.until('the change', () => heard.values.length === 1);
    // Every change of users and roles makes all tokens old.
    await server.ctl('role', 'add', 'another');
    await etcd.txn({ when: [], ifSo: [put('/ours/a', '2')] });
    await heard.until('the other change', () => heard.values.length === 2);
    expect(await refusal(entriesIn(etcd, { key: '/theirs' }))).toBe('denied');
    expect(await refusal(etcd.txn({ when: [], ifSo: [put('/theirs', '1')] }))).toBe('denied');
  });

  it.concurrent('watches with a new token after a restart, when etcd knows no token any more', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await withUsers(dir.path);
    using etcd = new Etcd({ endpoints: [server.url], login: { name: 'blockjob', password: 'word' } });
    await using heard = new Heard(etcd);
    await heard.until('live', () => heard.live);
    await server.restart();
    await server.put('/ours/a', '1');
    await heard.until('the change', () => heard.values.length === 1);
    expect(heard.values).toEqual(['1']);
  });

  it('says which user is not let in, and why', async () => {
    await using dir = await testDir('bj-etcd-');
    await using server = await withUsers(dir.path);
    const endpoints = [server.url];
    using wrong = new Etcd({ endpoints, login: { name: 'blockjob', password: 'wrong' } });
    expect(await refusal(entriesIn(wrong, { key: '/ours/a' }))).toBe('not-authenticated');
    using nobody = new Etcd({ endpoints });
    expect(await refusal(entriesIn(nobody, { key: '/ours/a' }))).toBe('not-authenticated');
  });

  it('speaks TLS with a certificate of its own, reads new ones from their files, and reports errors in them', async () => {
    await using dir = await testDir('bj-etcd-');
    const authority = await Authority.make(dir.path);
    const server = await authority.sign('etcd');
    const ours = await authority.sign('blockjob');
    const itself = ['--cert-file', server.certificateFile, '--key-file', server.privateKeyFile];
    const args = [...itself, '--trusted-ca-file', authority.caFile, '--client-cert-auth'];
    const ctl = ['--cacert', authority.caFile, '--cert', ours.certificateFile, '--key', ours.privateKeyFile];
    await using etcdServer = await EtcdServer.start({ dir: dir.path, args, secure: true, ctl });
    const endpoints = [`https://localhost:${etcdServer.port}`];
    const client = (tls: NonNullable<EtcdOptions['tls']>) => new Etcd({ endpoints, tls });

    using etcd = client({ caFile: authority.caFile, identity: ours });
    await etcd.txn({ when: [], ifSo: [put('/a', '1')] });
    expect(await etcdServer.ctl('get', '/a', '--print-value-only')).toBe('1');

    const stranger = await Authority.make(dir.path, 'other');
    const theirs = await stranger.sign('stranger');
    const quick = { timeoutMs: 4_000 };
    using anonymous = client({ caFile: authority.caFile });
    await expect(entriesIn(anonymous, { key: '/a' }, quick)).rejects.toThrow(/certificate required|bad certificate/);
    using foreign = client({ caFile: authority.caFile, identity: theirs });
    await expect(entriesIn(foreign, { key: '/a' }, quick)).rejects.toThrow(/unknown ca|bad certificate/);
    using deceived = client({ caFile: stranger.caFile, identity: ours });
    await expect(entriesIn(deceived, { key: '/a' }, quick)).rejects.toThrow(/unable to verify|self.signed/);

    // New files, and a connection after that.
    const rotating = { certificateFile: join(dir.path, 'r.pem'), privateKeyFile: join(dir.path, 'r.key') };
    const install = async (pair: typeof rotating) => {
      await copyFile(pair.certificateFile, rotating.certificateFile);
      await copyFile(pair.privateKeyFile, rotating.privateKeyFile);
    };
    await install(theirs);
    using rotated = client({ caFile: authority.caFile, identity: rotating, rereadMs: 200 });
    await expect(entriesIn(rotated, { key: '/a' }, quick)).rejects.toThrow(Unreachable);
    await install(ours);
    expect(await entriesIn(rotated, { key: '/a' })).toHaveLength(1);
  });

  it('speaks TLS 1.3 and nothing older', async () => {
    await using opened = new AsyncDisposableStack();
    const { path: dir } = opened.use(await testDir('bj-etcd-'));
    const authority = await Authority.make(dir);
    const pair = await authority.sign('etcd');
    const etcdServer = opened.use(await EtcdServer.start({ dir }));
    const [cert, key] = await Promise.all([readFile(pair.certificateFile), readFile(pair.privateKeyFile)]);
    /** A proxy between client and etcd that speaks no newer version. */
    const upTo = async (maxVersion: SecureVersion): Promise<Etcd> => {
      const front = createServer({ cert, key, ALPNProtocols: ['h2'], minVersion: 'TLSv1.2', maxVersion }, (socket) => {
        const behind = connect(etcdServer.port, '127.0.0.1');
        pipeline(socket, behind, socket, () => undefined);
      });
      front.listen(0, '127.0.0.1');
      await once(front, 'listening');
      opened.defer(() => void front.close());
      const { port } = front.address() as AddressInfo;
      return opened.use(new Etcd({ endpoints: [`https://localhost:${port}`], tls: { caFile: authority.caFile } }));
    };
    expect(await entriesIn(await upTo('TLSv1.3'), { key: '/a' })).toEqual([]);
    await expect(entriesIn(await upTo('TLSv1.2'), { key: '/a' }, { timeoutMs: 4_000 })).rejects.toThrow(
      /protocol.version/,
    );
  });

  it('sends neither password nor token over a network in the clear', () => {
    expect(() => new Etcd({ endpoints: ['http://etcd1:2379'] })).toThrow(/needs TLS: https:\/\/etcd1:2379/);
    expect(() => new Etcd({ endpoints: [] })).toThrow(RangeError);
    expect(() => new Etcd({ endpoints: ['etcd1:2379'] })).toThrow(/https:\/\/HOST:PORT/);
  });
});
