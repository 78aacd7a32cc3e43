/** The limits of a caller: connections, calls and time; other callers do not notice one that wants more. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { BlockJobServiceClient, WatchJobRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceClient } from '../../generated/blockjob/v1/domain_service.ts';
import { RetryInfo } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import type { BlockJobs } from '../../src/core/block-jobs.ts';
import { Certificates } from '../../src/grpc/certificates.ts';
import { UNARY } from '../../src/grpc/door/limits.ts';
import { connect as connectRemote } from '../../src/grpc/remote/connect.ts';
import { serve } from '../../src/grpc/server.ts';
import { Wake } from '../../src/lib/wake.ts';
import { eventually } from '../support/checks.ts';
import { message } from '../support/hostile/http2-frames.ts';
import { testDir, within } from '../support/real-qemu/qemu.ts';
import { refusalOf } from '../support/service/caller.ts';
import { Authority } from '../support/service/certificates.ts';
import { collect, event, INFO, NOTHING, serving, TRANSPORTS } from '../support/service/stub-server.ts';

const LIST = '/blockjob.v1.DomainService/ListDomains';
const WATCH = WatchJobRequest.fromPartial({ job: { name: { $case: 'jobId', value: 'x' } } });
const EMPTY = { items: [], nextPageToken: '', unreachableHosts: [] };
const listed: Partial<BlockJobs> = { listDomains: async () => await Promise.resolve(EMPTY) };

/** A watch lasts until its caller leaves. */
const watched: Partial<BlockJobs> = {
  ...listed,
  async *watch(_request, { signal }) {
    yield event('HEARTBEAT', 'one');
    await once(signal, 'abort');
  },
};

const long: Partial<BlockJobs> = {
  listDomains: async () => await Promise.resolve({ ...EMPTY, nextPageToken: 'x'.repeat(100_000) }),
};

const portOf = ({ address }: { readonly address: string }) => Number(address.split(':').at(-1));

async function list(client: DomainServiceClient): Promise<number> {
  return await new Promise((resolve) => {
    client.listDomains(
      { host: '', pageSize: 0, pageToken: '' },
      new Metadata(),
      { deadline: Date.now() + 20_000 },
      (error) => {
        resolve(error?.code ?? status.OK);
      },
    );
  });
}

/** Watches that have had their first event. */
async function begunWatches({ jobs }: { readonly jobs: BlockJobServiceClient }, length: number) {
  const watches = Array.from({ length }, () => jobs.watchJob(WATCH));
  await Promise.all(watches.map(async (watch) => await once(watch, 'data')));
  return watches;
}

/** Whether the connection is accepted: then the server sends something, as HTTP/2 requires. */
async function isLetIn(socket: Socket): Promise<boolean> {
  socket.on('error', () => undefined);
  return await new Promise((resolve) => {
    socket.once('data', () => resolve(true)).once('close', () => resolve(false));
  });
}

test.each(['soon', '1', '', '123456789n', '-1S', '1S;1S'])(
  'an invalid grpc-timeout is an error of the caller, and not INTERNAL: %j',
  async (timeout) => {
    await using server = await serving('tcp', listed);
    const session = connectHttp2(`http://127.0.0.1:${portOf(server)}`);
    const stream = session.request({
      ':method': 'POST',
      ':path': LIST,
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-timeout': timeout,
    });
    const [headers] = await within(20_000, 'an answer', once(stream, 'response'));
    session.destroy();
    expect(headers).toMatchObject({
      'grpc-status': String(status.INVALID_ARGUMENT),
      'grpc-message': expect.stringContaining('FIELD_INVALID') as string,
    });
  },
);

test.each(['gzip', 'deflate'])(
  'a request that is not what its grpc-encoding says is not INTERNAL: %s',
  async (encoding) => {
    await using server = await serving('tcp', listed);
    const session = connectHttp2(`http://127.0.0.1:${portOf(server)}`);
    const stream = session.request({
      ':method': 'POST',
      ':path': LIST,
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-encoding': encoding,
    });
    stream.end(Buffer.from([1, 0, 0, 0, 3, 1, 2, 3]));
    const [headers] = await within(20_000, 'an answer', once(stream, 'response'));
    session.destroy();
    expect(headers).toMatchObject({
      'grpc-status': String(status.INVALID_ARGUMENT),
      'grpc-message': expect.stringContaining('FIELD_INVALID') as string,
    });
  },
);

describe('connections', () => {
  test('the number per address is limited, and other addresses have their own', async () => {
    await using server = await serving('tcp', listed, { connections: 5, peerConnections: 2 });
    const from = (localAddress: string) => connect({ port: portOf(server), host: '127.0.0.1', localAddress });
    const first = [from('127.0.0.5'), from('127.0.0.5')];
    expect(await Promise.all(first.map(isLetIn))).toEqual([true, true]);
    expect(await isLetIn(from('127.0.0.5'))).toBe(false);
    const others = [from('127.0.0.6'), from('127.0.0.6'), from('127.0.0.7')];
    expect(await Promise.all(others.map(isLetIn))).toEqual([true, true, true]);
    // The total number is limited, too.
    expect(await isLetIn(from('127.0.0.8'))).toBe(false);
    first[0]?.destroy();
    await eventually('the place is free', async () => (await isLetIn(from('127.0.0.8'))) || undefined);
    for (const socket of [...first, ...others]) socket.destroy();
    await server.drain(0);
    expect(server.log).toContainEqual(
      expect.objectContaining({
        msg: 'audit: limits reached',
        refused: expect.objectContaining({ 'connections of 127.0.0.5': 1 }) as unknown,
      }),
    );
  });

  test('with certificates their places are released, too', async () => {
    await using dir = await testDir();
    const authority = await Authority.make(dir.path);
    const pair = await authority.sign('both', { uri: 'spiffe://site/both' });
    const log = pino({ level: 'silent' });
    using certificates = new Certificates({ ...pair, caFile: authority.caFile }, log);
    const listen = { host: '127.0.0.1', port: 0 };
    const limits = { peerConnections: 2 };
    const server = await serve({ ...NOTHING, ...listed }, { info: INFO, listen, certificates, limits, log });
    const [cert, key, ca] = await Promise.all(
      [pair.certificateFile, pair.privateKeyFile, authority.caFile].map(async (file) => await readFile(file)),
    );
    let letIn = 0;
    for (let round = 0; round < 5; round += 1) {
      const sockets = await Promise.all(
        Array.from({ length: 2 }, async () => {
          return await eventually('it is let in', async () => {
            const socket = connectTls({
              port: portOf(server),
              host: '127.0.0.1',
              ALPNProtocols: ['h2'],
              cert,
              key,
              ca,
            });
            return (await isLetIn(socket)) ? socket : undefined;
          });
        }),
      );
      letIn += sockets.length;
      const closed = sockets.map(async (socket) => await once(socket, 'close'));
      for (const socket of sockets) socket.end();
      await Promise.all(closed);
    }
    expect(letIn).toBe(10);
    // A connection without a handshake does not keep the server from its end.
    const silent = connect({ port: portOf(server), host: '127.0.0.1' });
    silent.on('error', () => undefined);
    await once(silent, 'connect');
    await within(20_000, 'the end', server.drain(0));
  });

  test('an old one is replaced: its calls end, and a watch is told to come back', async () => {
    await using server = await serving('tcp', watched, { connectionMs: 300, graceMs: 300 });
    const { error, messages } = await within(20_000, 'the end of the watch', collect(server.jobs.watchJob(WATCH)));
    expect({ code: error?.code, messages: messages.length }).toEqual({ code: status.UNAVAILABLE, messages: 1 });
    expect(await list(server.domains)).toBe(status.OK);
  });

  test.each(TRANSPORTS)('with a new connection every moment, no call is lost, over %s', async (transport) => {
    await using server = await serving(transport, listed, { connectionMs: 50, graceMs: 5000 });
    const until = performance.now() + 1500;
    const codes = new Set<number>();
    while (performance.now() < until) codes.add(await list(server.domains));
    expect([...codes]).toEqual([status.OK]);
  });
});

/** Counts the calls in it at a time, until it is opened. */
class Gate {
  readonly #wake = new Wake();
  #isOpen = false;
  inside = 0;
  most = 0;

  async pass(): Promise<void> {
    this.inside += 1;
    this.most = Math.max(this.most, this.inside);
    const before = this.#wake.now;
    if (!this.#isOpen) await this.#wake.after(before);
    this.inside -= 1;
  }

  open(): void {
    this.#isOpen = true;
    this.#wake.notify();
  }
}

/** Resolves at the end of the call, with or without an error. */
async function endOf(call: ClientHttp2Stream): Promise<void> {
  await new Promise<void>((resolve) => {
    call.once('close', resolve);
  });
}

/** An agent with these methods, as a gateway sees it. */
async function seenByGateway(jobs: Partial<BlockJobs>, see: (agent: Remote) => Promise<void>): Promise<void> {
  await using dir = await testDir();
  const authority = await Authority.make(dir.path);
  const log = pino({ level: 'silent' });
  const caFile = authority.caFile;
  using ofAgent = new Certificates({ ...(await authority.sign('agent', { uri: 'spiffe://site/agent' })), caFile }, log);
  using ofGateway = new Certificates({ ...(await authority.sign('gate', { uri: 'spiffe://site/gate' })), caFile }, log);
  const server = await serve(
    { ...NOTHING, ...jobs },
    {
      info: INFO,
      listen: { host: '127.0.0.1', port: 0 },
      certificates: ofAgent,
      gateways: ['spiffe://site/gate'],
      onlyGateways: true,
      log,
    },
  );
  const place = { name: 'host1', address: `localhost:${portOf(server)}`, identity: 'spiffe://site/agent' };
  {
    using remote = connectRemote(place, ofGateway);
    await see(remote);
  }
  await server.drain(0);
}

type Remote = ReturnType<typeof connectRemote>;
const ANY_DOMAIN = { host: '', pageSize: 0, pageToken: '' };

describe('a gateway', () => {
  test('has the watches of many callers on its one connection to an agent, and can still make other calls', async () => {
    await seenByGateway(watched, async (remote) => {
      const leaves = new AbortController();
      const request = { job: { jobId: 'x' }, afterRevision: undefined, progressIntervalMs: undefined };
      const watches = Array.from({ length: 2000 }, async () => {
        const events = remote.watch(request, { signal: leaves.signal })[Symbol.asyncIterator]();
        return { first: await events.next(), events };
      });
      const begun = await Promise.all(watches);
      expect(begun.filter(({ first }) => first.value !== undefined)).toHaveLength(2000);
      const { signal } = new AbortController();
      expect(await remote.listDomains(ANY_DOMAIN, { signal })).toMatchObject({ items: [] });
      leaves.abort();
      await Promise.allSettled(begun.map(async ({ events }) => await events.next()));
    });
  });

  test('makes many calls at a time: calls beyond the limit of one host wait, and are answered', async () => {
    const gate = new Gate();
    const listDomains = async () => {
      await gate.pass();
      return EMPTY;
    };
    await seenByGateway({ listDomains }, async (remote) => {
      const { signal } = new AbortController();
      const calls = Array.from({ length: 600 }, async () => await remote.listDomains(ANY_DOMAIN, { signal }));
      const all = Promise.all(calls);
      all.catch(() => undefined);
      await eventually('as many as may be are in it', () => gate.inside === 500 || undefined);
      gate.open();
      expect(await all).toHaveLength(600);
      expect(gate.most).toBe(500);
    });
  });
});

describe('calls', () => {
  test('the number at a time on one connection is limited, and none is lost', async () => {
    const gate = new Gate();
    const listDomains = async () => {
      await gate.pass();
      return EMPTY;
    };
    await using server = await serving('tcp', { listDomains }, { streams: 10 });
    const calls = Array.from({ length: 50 }, async () => await list(server.domains));
    await eventually('ten are in it', () => gate.inside === 10 || undefined);
    gate.open();
    expect(new Set(await Promise.all(calls))).toEqual(new Set([status.OK]));
    expect(gate.most).toBe(10);
  });

  test('beyond those of one address are refused, and are served when there is room', async () => {
    const gate = new Gate();
    const listDomains = async () => {
      await gate.pass();
      return EMPTY;
    };
    await using server = await serving('tcp', { listDomains });
    const calls = Array.from({ length: UNARY.ofOne }, async () => await list(server.domains));
    await eventually('all of them are in it', () => gate.inside === UNARY.ofOne || undefined);
    // Another connection, as the first one has no more calls.
    const other = new DomainServiceClient(server.address, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    expect(await list(other)).toBe(status.RESOURCE_EXHAUSTED);
    gate.open();
    expect(new Set(await Promise.all(calls))).toEqual(new Set([status.OK]));
    expect(await list(other)).toBe(status.OK);
    other.close();
  });

  test('the watches of a connection are limited, so that it can still make other calls', async () => {
    await using server = await serving('tcp', watched, { streams: 10 });
    const watches = await begunWatches(server, 8);
    const { error } = await collect(server.jobs.watchJob(WATCH));
    expect(refusalOf(error)).toMatchObject({ code: status.RESOURCE_EXHAUSTED, reason: 'TOO_MANY_CALLS' });
    const [bytes] = (error as ServiceError).metadata.get('grpc-status-details-bin');
    const details = Status.decode(Buffer.from(bytes ?? '')).details;
    const retry = details.find(({ typeUrl }) => typeUrl.endsWith('RetryInfo'));
    expect(RetryInfo.decode(retry?.value ?? Buffer.alloc(0)).retryDelay?.seconds).toBe(1n);
    expect(await list(server.domains)).toBe(status.OK);
    const other = new BlockJobServiceClient(server.address, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    const watch = other.watchJob(WATCH);
    await once(watch, 'data');
    for (const one of [...watches, watch]) one.on('error', () => undefined).cancel();
    other.close();
  });

  test('the watches of one address are five sixths of all', async () => {
    await using server = await serving('tcp', watched, { watches: 6 });
    const watches = await begunWatches(server, 5);
    const { error } = await collect(server.jobs.watchJob(WATCH));
    expect(refusalOf(error)).toMatchObject({ code: status.RESOURCE_EXHAUSTED, reason: 'TOO_MANY_CALLS' });
    for (const one of watches) one.on('error', () => undefined).cancel();
  });

  test('that begin and do not continue are ended', async () => {
    await using server = await serving('tcp', listed, { requestMs: 300 });
    const client = connectHttp2(`http://${server.address}`);
    const headers = { ':method': 'POST', ':path': LIST, 'content-type': 'application/grpc', te: 'trailers' };
    const call = client.request(headers, { endStream: false });
    call.on('error', () => undefined);
    await within(10_000, 'its end', endOf(call));
    // ENHANCE_YOUR_CALM, which gRPC clients report as RESOURCE_EXHAUSTED.
    expect(call.rstCode).toBe(11);
    expect(await list(server.domains)).toBe(status.OK);
    client.destroy();
  });

  test('that are complete and wait for their turn are not ended for it', async () => {
    await using server = await serving('tcp', long, { requestMs: 300 });
    const headers = { ':method': 'POST', ':path': LIST, 'content-type': 'application/grpc', te: 'trailers' };
    const ask = (client: ClientHttp2Session, body: 'whole' | 'none') => {
      const call = client.request(headers, { endStream: false });
      call.on('error', () => undefined);
      if (body === 'whole') call.end(message(Buffer.alloc(0)));
      return call;
    };
    const client = connectHttp2(`http://${server.address}`, { settings: { initialWindowSize: 0 } });
    // Answers that the client does not read: later calls have to wait.
    const first = Array.from({ length: 3 }, () => ask(client, 'whole'));
    await Promise.all(first.map(async (call) => await once(call, 'response')));
    const waits = ask(client, 'whole');
    const other = connectHttp2(`http://${server.address}`);
    // It began later, and never gets an answer.
    await within(10_000, 'its end', endOf(ask(other, 'none')));
    expect(waits.closed).toBe(false);
    client.settings({ initialWindowSize: 1 << 20 });
    for (const call of [...first, waits]) call.resume();
    await within(10_000, 'its answer', endOf(waits));
    expect(waits.rstCode).toBe(0);
    client.destroy();
    other.destroy();
  });

  test('with answers that nobody reads are ended', async () => {
    await using server = await serving('tcp', long, { answerMs: 300 });
    const client = connectHttp2(`http://${server.address}`, { settings: { initialWindowSize: 0 } });
    const headers = { ':method': 'POST', ':path': LIST, 'content-type': 'application/grpc', te: 'trailers' };
    const call = client.request(headers, { endStream: false });
    call.on('error', () => undefined);
    call.end(message(Buffer.alloc(0)));
    await within(10_000, 'its end', endOf(call));
    expect(call.rstCode).toBe(11);
    client.destroy();
  });

  test('have few headers', async () => {
    await using server = await serving('tcp', listed);
    const client = connectHttp2(`http://${server.address}`);
    const headers = { ':method': 'POST', ':path': LIST, 'content-type': 'application/grpc', te: 'trailers' };
    const call = client.request({ ...headers, 'x-large': 'x'.repeat(8200) }, { endStream: false });
    call.on('error', () => undefined);
    call.end(message(Buffer.alloc(0)));
    await within(10_000, 'its end', endOf(call));
    expect(call.rstCode).toBe(11);
    client.destroy();
    expect(await list(server.domains)).toBe(status.OK);
  });
});
