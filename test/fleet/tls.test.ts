/** The port of a fleet: TLS 1.3 on both ends, certificates that change meanwhile, and random bytes. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, readFile, rename } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import * as fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BlockJobs } from '../../src/core/block-jobs.ts';
import type { JobEvent } from '../../src/core/job/job-event.ts';
import { Certificates } from '../../src/grpc/certificates.ts';
import { connect } from '../../src/grpc/remote/connect.ts';
import type { Remote } from '../../src/grpc/remote/remote.ts';
import { type RunningServer, serve } from '../../src/grpc/server.ts';
import { Wake } from '../../src/lib/wake.ts';
import { eventually } from '../support/checks.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { PATIENT } from '../support/service/agent.ts';
import { Authority, type Pair } from '../support/service/certificates.ts';
import { event, INFO } from '../support/service/stub-server.ts';

/** An address with the port, whichever it is. */
const PORT = expect.stringMatching(/:[1-9]\d*$/) as unknown;
const PAGE = { host: '', pageSize: 0, pageToken: '' };

describe('a port with certificates', () => {
  const opened = new AsyncDisposableStack();
  const log: string[] = [];
  const more = new Wake();
  let authority: Authority;
  let server: RunningServer;
  let port: number;
  let files: { certificateFile: string; privateKeyFile: string; caFile: string };
  let client: Pair;
  let remote: Remote;

  beforeAll(async () => {
    const { path: dir } = opened.use(await testDir());
    authority = await Authority.make(dir);
    client = await authority.sign('client', { uri: 'spiffe://site/client' });
    files = { certificateFile: join(dir, 'now.pem'), privateKeyFile: join(dir, 'now.key'), caFile: authority.caFile };
    await replace(await authority.sign('first', { uri: 'spiffe://site/server' }));
    const sink = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        log.push(chunk.toString());
        done();
      },
    });
    const logger = pino({ level: 'debug' }, sink);
    const jobs: Partial<BlockJobs> = {
      listDomains: async () => await Promise.resolve({ items: [], nextPageToken: '', unreachableHosts: [] }),
      async *watch(_request, { signal }): AsyncGenerator<JobEvent> {
        for (let sent = 0; !signal.aborted; sent += 1) {
          const before = more.now;
          yield event('HEARTBEAT', String(sent));
          await more.after(before, { signal });
        }
      },
    };
    const certificates = opened.use(new Certificates(files, logger));
    const listen = { host: '127.0.0.1', port: 0 };
    server = await serve(jobs as BlockJobs, { info: INFO, listen, certificates, log: logger });
    opened.defer(async () => await server.drain(0));
    port = Number(server.address.split(':').at(-1));
    const mine = opened.use(new Certificates({ ...client, caFile: authority.caFile }, logger));
    remote = opened.use(connect({ name: 'h', address: `localhost:${port}`, identity: 'spiffe://site/server' }, mine));
  });
  afterAll(async () => await opened.disposeAsync());

  /** Replaces the files by name, as a rotation does, the key first. */
  async function replace(pair: Pair): Promise<void> {
    await put(pair.privateKeyFile, files.privateKeyFile);
    await put(pair.certificateFile, files.certificateFile);
  }

  async function tlsSocket(options: object = {}): Promise<TLSSocket> {
    const [ca, cert, key] = await Promise.all(
      [authority.caFile, client.certificateFile, client.privateKeyFile].map(async (file) => await readFile(file)),
    );
    const socket = connectTls({
      host: '127.0.0.1',
      port,
      ca,
      cert,
      key,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      ...options,
    });
    await Promise.race([
      once(socket, 'secureConnect'),
      once(socket, 'error').then(([error]) => Promise.reject(error as Error)),
    ]);
    return socket;
  }

  async function serial(): Promise<string> {
    const socket = await tlsSocket();
    const { serialNumber } = socket.getPeerCertificate();
    socket.destroy();
    return serialNumber;
  }

  test('speaks TLS 1.3 and nothing older', async () => {
    const socket = await tlsSocket();
    expect(socket.getProtocol()).toBe('TLSv1.3');
    socket.destroy();
    await expect(tlsSocket({ maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' })).rejects.toThrow('protocol version');
  });

  test('is not taken for another server: the client checks the expected name', async () => {
    using other = connect(
      { name: 'h', address: `localhost:${port}`, identity: 'spiffe://site/other' },
      opened.use(new Certificates({ ...client, caFile: authority.caFile }, pino({ level: 'silent' }))),
    );
    await expect(other.listDomains(PAGE, { ...PATIENT, deadlineMs: performance.now() + 3000 })).rejects.toThrow(
      'HOST_UNREACHABLE',
    );
    expect((await remote.listDomains(PAGE, PATIENT)).items).toEqual([]);
  });

  test('takes a new certificate without dropping a stream, and ignores half of one', async () => {
    const leaving = new AbortController();
    const seen: string[] = [];
    const arrived = new Wake();
    const watching = (async () => {
      const request = { job: { jobId: 'x' }, afterRevision: undefined, progressIntervalMs: undefined };
      for await (const { detail } of remote.watch(request, { signal: leaving.signal })) {
        seen.push(detail);
        arrived.notify();
      }
    })();
    const first = await serial();
    const second = await authority.sign('second', { uri: 'spiffe://site/server' });
    // The new key is there, and its certificate is not.
    await put(second.privateKeyFile, files.privateKeyFile);
    await eventually('the half is seen', async () =>
      (await Promise.resolve(log)).some((line) => line.includes('the previous certificates stay in use'))
        ? true
        : undefined,
    );
    expect(await serial()).toBe(first);
    await put(second.certificateFile, files.certificateFile);
    await eventually('the new one is used', async () => ((await serial()) === first ? undefined : true));
    const count = seen.length;
    more.notify();
    while (seen.length === count) await arrived.after(arrived.now);
    expect(seen.at(-1)).toBe(String(count));
    leaving.abort();
    await watching;
  });

  /** The log has some line about refused connections from there. */
  async function linesFrom(address: string): Promise<readonly object[]> {
    const lines = () =>
      log.flatMap((line) => {
        const { msg, ...told } = JSON.parse(line) as { readonly msg: string; readonly address?: string };
        return msg === 'audit: connection refused' && told.address?.startsWith(`${address}:`) === true ? [told] : [];
      });
    await eventually('the line', async () => ((await Promise.resolve(lines())).length > 0 ? true : undefined));
    // All other output comes before this.
    expect((await remote.listDomains(PAGE, PATIENT)).items).toEqual([]);
    return lines();
  }

  describe('a refused connection is one log line, which says from where and why', () => {
    const uri = 'spiffe://site/client';
    const strangers: Readonly<Record<string, () => Promise<object>>> = {
      'its certificate has expired': async () => await certified(await authority.sign('late', { uri, days: 0 })),
      'its certificate is from another authority': async () => {
        const { path } = opened.use(await testDir());
        return await certified(await (await Authority.make(path, 'other')).sign('stranger', { uri }));
      },
      'its certificate is not for clients (extendedKeyUsage lacks clientAuth)': async () =>
        await certified(await authority.sign('misused', { uri, usage: 'serverAuth' })),
      'it did not send a certificate': async () => await Promise.resolve({ cert: undefined, key: undefined }),
      'it does not speak TLS 1.3': async () => await Promise.resolve({ maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' }),
      'it does not speak HTTP/2': async () => await Promise.resolve({ ALPNProtocols: ['x'] }),
    };
    const plain: Readonly<Record<string, string>> = {
      'it speaks plain HTTP, and this port accepts only TLS': 'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
      'its data is not TLS; it may speak gRPC in plaintext': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    };

    /** Each from an address of its own, so that its lines can be distinguished. */
    let stranger = 1;

    test.each(Object.entries(strangers))('%s', async (why, options) => {
      stranger += 1;
      const localAddress = `127.0.0.${stranger}`;
      // The server refuses when the client has already got its answer.
      const socket = await tlsSocket({ ...(await options()), localAddress }).catch(() => undefined);
      socket?.on('error', () => undefined).resume();
      expect(await linesFrom(localAddress)).toEqual([expect.objectContaining({ why, address: PORT })]);
      socket?.destroy();
    });

    test.each(Object.entries(plain))('%s', async (why, bytes) => {
      stranger += 1;
      const localAddress = `127.0.0.${stranger}`;
      const socket = connectTcp({ port, host: '127.0.0.1', localAddress });
      socket.on('error', () => undefined).resume();
      socket.write(bytes);
      expect(await linesFrom(localAddress)).toEqual([expect.objectContaining({ why, address: PORT })]);
      socket.destroy();
    });
  });

  test('survives random bytes, before and after the handshake', async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 2000 }),
      fc.constant(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')),
      fc.constant(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')),
      // A frame of HTTP/2 of any type, with any flags, on any stream.
      fc
        .tuple(fc.nat(255), fc.nat(255), fc.nat(), fc.uint8Array({ maxLength: 200 }))
        .map(([type, flags, stream, payload]) => {
          const head = Buffer.alloc(9);
          head.writeUIntBE(payload.length, 0, 3);
          head.writeUInt8(type, 3);
          head.writeUInt8(flags, 4);
          head.writeUInt32BE(stream % 2 ** 31, 5);
          return Buffer.concat([
            Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
            Buffer.alloc(3),
            Buffer.from([4, 0, 0, 0, 0, 0]),
            head,
            payload,
          ]);
        }),
    );
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(bytes, { minLength: 1, maxLength: 3 }), async (isSecure, chunks) => {
        const socket = isSecure ? await tlsSocket() : connectTcp(port, '127.0.0.1');
        socket.on('error', () => undefined);
        for (const chunk of chunks) socket.write(chunk);
        socket.end(randomBytes(3));
        socket.resume();
        await once(socket, 'close');
      }),
      { numRuns: 150 },
    );
    expect((await remote.listDomains(PAGE, PATIENT)).items).toEqual([]);
    expect(log.filter((line) => line.includes('"msg":"Internal error: a bug"'))).toEqual([]);
    expect(log.some((line) => line.includes('audit: connection refused'))).toBe(true);
  }, 60_000);
});

async function put(from: string, to: string): Promise<void> {
  await copyFile(from, `${to}.new`);
  await rename(`${to}.new`, to);
}

async function certified(pair: Pair): Promise<object> {
  return { cert: await readFile(pair.certificateFile), key: await readFile(pair.privateKeyFile) };
}
