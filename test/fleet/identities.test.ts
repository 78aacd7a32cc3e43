/** The name of a caller on a port with certificates: names of another kind, and gateways with invalid headers. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect as connectHttp2 } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { PauseRequest, WatchJobRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import type { BlockJobs } from '../../src/core/block-jobs.ts';
import { Certificates } from '../../src/grpc/certificates.ts';
import { serve } from '../../src/grpc/server.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { byId, Caller, refusalOf, refused } from '../support/service/caller.ts';
import { Authority, type SignOptions } from '../support/service/certificates.ts';
import { INFO } from '../support/service/stub-server.ts';

const GATEWAY = 'spiffe://site/gateway/g1';
const log = pino({ level: 'silent' });
const opened = new AsyncDisposableStack();
let authority: Authority;
let address: string;
let count = 0;

beforeAll(async () => {
  const { path: dir } = opened.use(await testDir());
  authority = await Authority.make(dir);
  const pair = await authority.sign('server', { uri: 'spiffe://site/server' });
  const certificates = opened.use(new Certificates({ ...pair, caFile: authority.caFile }, log));
  const jobs: Partial<BlockJobs> = {
    listDomains: async () => await Promise.resolve({ items: [], nextPageToken: '', unreachableHosts: [] }),
  };
  const listen = { host: '127.0.0.1', port: 0 };
  const server = await serve(jobs as BlockJobs, { info: INFO, listen, certificates, gateways: [GATEWAY], log });
  opened.defer(async () => await server.drain(0));
  address = `localhost:${server.address.split(':').at(-1)}`;
});
afterAll(async () => await opened.disposeAsync());

async function pemsOf(names: SignOptions): Promise<readonly (Buffer | undefined)[]> {
  const pair = await authority.sign(`caller-${(count += 1)}`, names);
  return await Promise.all(
    [authority.caFile, pair.privateKeyFile, pair.certificateFile].map(async (file) => await readFile(file)),
  );
}

async function callerWith(names: SignOptions): Promise<Caller> {
  const [ca, key, certificate] = await pemsOf(names);
  const caller = new Caller(address, credentials.createSsl(ca ?? null, key ?? null, certificate ?? null));
  opened.defer(() => caller.close());
  return caller;
}

test('a DNS name that looks like a SPIFFE id is not one, of a caller or of a gateway', async () => {
  for (const dns of ['spiffe://site/ops', GATEWAY]) {
    const caller = await callerWith({ dns });
    expect((await caller.serverInfo()).caller).toBe('');
  }
  expect((await (await callerWith({ dns: 'ops.example' })).serverInfo()).caller).toBe('ops.example');
});

test('the certificate of a connection is read once, and each call has its name', async () => {
  const caller = await callerWith({ uri: 'spiffe://site/ops' });
  await caller.serverInfo();
  const reads = vi.spyOn(TLSSocket.prototype, 'getPeerCertificate');
  const found = await Promise.all(Array.from({ length: 10 }, async () => (await caller.serverInfo()).caller));
  expect(new Set(found)).toEqual(new Set(['spiffe://site/ops']));
  expect(reads).not.toHaveBeenCalled();
  vi.restoreAllMocks();
});

const unary = async (ask: (done: (error: ServiceError | null) => void) => unknown) =>
  await refused(
    new Promise<void>((resolve, reject) => {
      ask((error) => (error === null ? resolve() : reject(error)));
    }),
  );

test.each([
  ['blockjob-caller', '%'],
  ['blockjob-caller', '%ff'],
  ['blockjob-epoch', 'x'],
  ['blockjob-epoch', '1.5'],
  ['blockjob-rights-bin', Buffer.from('{')],
])('a gateway that sends %s: %s is answered: a question, a change and a watch', async (header, value) => {
  const gateway = await callerWith({ uri: GATEWAY });
  const metadata = new Metadata();
  metadata.set(header, value);
  // Without an answer it ends with DEADLINE_EXCEEDED.
  const options = { deadline: Date.now() + 5000 };
  const list = await unary((done) =>
    gateway.domains.listDomains({ host: '', pageSize: 0, pageToken: '' }, metadata, options, done),
  );
  const pause = await unary((done) =>
    gateway.blockJobs.pause(PauseRequest.fromPartial({ job: byId('bj0') }), metadata, options, done),
  );
  const stream = gateway.blockJobs.watchJob(WatchJobRequest.fromPartial({ job: byId('bj0') }), metadata, options);
  const watch = await new Promise<unknown>((resolve) => void stream.on('error', resolve).on('end', resolve).resume());
  for (const answer of [list, pause, refusalOf(watch)]) {
    expect(answer).toMatchObject({
      code: status.FAILED_PRECONDITION,
      reason: 'GATEWAY_HEADER_INVALID',
      metadata: { gateway: GATEWAY, header },
    });
  }
});

async function streamsOf(names: SignOptions): Promise<number | undefined> {
  const [ca, key, cert] = await pemsOf(names);
  const session = connectHttp2(`https://${address}`, { ca, key, cert });
  try {
    await once(session, 'remoteSettings');
    // The settings of this connection come after those of all connections, and before any answer.
    await promisify(session.ping.bind(session))();
    return session.remoteSettings.maxConcurrentStreams;
  } finally {
    session.close();
  }
}

test('a gateway may have the watches of many callers on its connection, other clients may not', async () => {
  expect(await streamsOf({ uri: GATEWAY })).toBe(3000);
  expect(await streamsOf({ uri: 'spiffe://site/ops' })).toBe(500);
});

test('a gateway sends as many rights of a caller as a policy may have for one', async () => {
  const names = Array.from({ length: (16 * 1024) / 16 - 4 }, (_, at) => `domain-${String(at).padStart(6, '0')}`);
  const rights = Buffer.from(JSON.stringify({ read: names, operate: [] }));
  expect(rights.length).toBeLessThanOrEqual(16 * 1024);
  const gateway = await callerWith({ uri: GATEWAY });
  const other = await callerWith({ uri: 'spiffe://site/ops' });
  const code = async ({ domains }: Caller) => {
    const metadata = new Metadata();
    metadata.set('blockjob-caller', 'spiffe://site/ops');
    metadata.set('blockjob-rights-bin', rights);
    const options = { deadline: Date.now() + 5000 };
    return await new Promise((resolve) => {
      domains.listDomains({ host: '', pageSize: 0, pageToken: '' }, metadata, options, (error) => {
        resolve(error?.code ?? status.OK);
      });
    });
  };
  expect(await code(gateway)).toBe(status.OK);
  expect(await code(other)).toBe(status.RESOURCE_EXHAUSTED);
});
