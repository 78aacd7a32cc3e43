/** The server: its input, its output, and its end. The test provides the jobs. */
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import {
  GetInfoRequest,
  SetSpeedRequest,
  StartCopyRequest,
  WatchJobRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import { ServerMode, ServerServiceClient } from '../../generated/blockjob/v1/server_service.ts';
import { RetryInfo } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import type { BlockJobs, Call } from '../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../src/core/errors.ts';
import { JobEvent } from '../../src/core/job/job-event.ts';
import { mustOperate } from '../../src/core/rights.ts';
import { eventually } from '../support/checks.ts';
import { within } from '../support/real-qemu/qemu.ts';
import { refusalOf, refused } from '../support/service/caller.ts';
import {
  callRaw,
  collect,
  event,
  INFO,
  identity,
  serving,
  streamRaw,
  TRANSPORTS,
  VIEW,
} from '../support/service/stub-server.ts';

const UNARY = [
  'StartCopy',
  'Abort',
  'GetInfo',
  'ListJobs',
  'Rebase',
  'Commit',
  'SetSpeed',
  'Pause',
  'Resume',
  'ListLeftovers',
  'Reclaim',
];
const JOBS = '/blockjob.v1.BlockJobService';
const JOB = { name: { $case: 'jobId', value: 'x' } } as const;
const GET_INFO = Buffer.from(GetInfoRequest.encode(GetInfoRequest.fromPartial({ job: JOB })).finish());
const START_COPY = Buffer.from(StartCopyRequest.encode(StartCopyRequest.fromPartial({})).finish());
const WATCH = WatchJobRequest.fromPartial({ job: JOB });

async function startCopyError(jobs: Parameters<typeof callRaw>[0], bytes: Buffer = START_COPY): Promise<ServiceError> {
  return await callRaw(jobs, `${JOBS}/StartCopy`, bytes).then(
    () => expect.fail('the call was not refused'),
    (error: unknown) => error as ServiceError,
  );
}

/** A request of about this size. */
function sized(bytes: number): Buffer {
  return Buffer.from(StartCopyRequest.encode(StartCopyRequest.fromPartial({ planEtag: 'x'.repeat(bytes) })).finish());
}

/** Everything that code could throw. */
const THROWN: readonly (readonly [string, unknown])[] = [
  ['undefined', undefined],
  ['null', null],
  ['a string', 'thrown'],
  ['the empty string', ''],
  ['a number', 42],
  ['a bigint', 42n],
  ['a symbol', Symbol('thrown')],
  ['an empty object', {}],
  ['an object without prototype', Object.create(null)],
  ['a function', () => undefined],
  ['a TypeError', new TypeError('thrown')],
  ['an error without a message', new Error()],
  ['an error with a cause that is itself', circular()],
  ['an AggregateError', new AggregateError([new Error('one'), 'two'], 'many')],
  [
    'a text that looks like a gRPC error',
    Object.assign(new Error('UNKNOWN'), { code: status.UNKNOWN, details: 'x', metadata: new Metadata() }),
  ],
  ['an error of the file system', Object.assign(new Error('no'), { code: 'ENOENT', errno: -2 })],
  ['an AbortError', new DOMException('aborted', 'AbortError')],
  ['an error whose message throws', hostile('message')],
  ['an error whose stack throws', hostile('stack')],
  ['a frozen error', Object.freeze(new Error('frozen'))],
  ['a proxy that throws at every look', proxy()],
];

function circular(): Error {
  const error: Error = new Error('circular');
  error.cause = error;
  return error;
}

function hostile(property: 'message' | 'stack'): Error {
  return Object.defineProperty(new Error('hostile'), property, {
    get: () => {
      throw new Error(`no ${property} for you`);
    },
  });
}

function no(): never {
  throw new Error('do not look');
}

function proxy(): unknown {
  return new Proxy({}, { get: no, has: no, ownKeys: no, getOwnPropertyDescriptor: no, getPrototypeOf: no });
}

describe.each(TRANSPORTS)('over %s', (transport) => {
  test('a message above 160 KiB is refused, and in a smaller one a text that is longer than it may be', async () => {
    await using server = await serving(transport, {
      startCopy: async () => await Promise.reject(new BlockJobError(failure('DOMAIN_NOT_FOUND', { domain: 'x' }))),
    });
    expect(await startCopyError(server.jobs, sized(160 * 1024))).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    expect(await startCopyError(server.jobs, sized(150 * 1024))).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await startCopyError(server.jobs, sized(100))).toMatchObject({ code: status.NOT_FOUND });
  });

  test('bytes that are not a message: FIELD_INVALID, from every rpc', async () => {
    await using server = await serving(transport, {});
    // A field that announces more bytes than there are.
    const bad = Buffer.from([0x0a, 0x7f, 0x01]);
    for (const rpc of UNARY) {
      const why = await refused(callRaw(server.jobs, `${JOBS}/${rpc}`, bad));
      expect({ rpc, ...why }).toMatchObject({
        rpc,
        code: status.INVALID_ARGUMENT,
        reason: 'FIELD_INVALID',
        domain: 'blockjob.v1.ErrorReason',
      });
    }
    for (const rpc of ['ListDomains', 'GetDomain', 'CheckOperation']) {
      const why = await refused(callRaw(server.domains, `/blockjob.v1.DomainService/${rpc}`, bad));
      expect({ rpc, ...why }).toMatchObject({ rpc, code: status.INVALID_ARGUMENT, reason: 'FIELD_INVALID' });
    }
    const info = await refused(callRaw(server.domains, '/blockjob.v1.ServerService/GetServerInfo', bad));
    expect(info).toMatchObject({ code: status.INVALID_ARGUMENT, reason: 'FIELD_INVALID' });
    const { error, messages } = await collect(streamRaw(server.jobs, `${JOBS}/WatchJob`, bad));
    expect(messages).toEqual([]);
    expect(refusalOf(error)).toMatchObject({ code: status.INVALID_ARGUMENT, reason: 'FIELD_INVALID' });
  });

  test('says which program it is', async () => {
    await using server = await serving(transport, {});
    const client = new ServerServiceClient(server.address, credentials.createInsecure());
    using _ = { [Symbol.dispose]: () => client.close() };
    const answer = await new Promise((resolve, reject) => {
      client.getServerInfo({}, (error, got) => (error === null ? resolve(got) : reject(error)));
    });
    expect(answer).toEqual({ server: { ...INFO, mode: ServerMode.SERVER_MODE_SERVE, caller: '' } });
  });

  test('a bug is INTERNAL, with an id that is in the log with a stack, and without internal details', async () => {
    await using server = await serving(transport, {
      getInfo: async () => await Promise.reject(new TypeError('secret of the inside')),
    });
    const why = await refused(callRaw(server.jobs, `${JOBS}/GetInfo`, GET_INFO));
    expect(why).toMatchObject({ code: status.INTERNAL, reason: 'BUG', domain: 'blockjob.v1.ErrorReason' });
    expect(JSON.stringify(why)).not.toContain('secret');
    const id = why.metadata['id'] ?? '';
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    const logged = server.log.find((line) => line['id'] === id);
    expect(logged).toMatchObject({ level: 50, err: { type: 'TypeError', message: 'secret of the inside' } });
    expect(JSON.stringify(logged)).toContain('server.test.ts');
  });

  test.each(THROWN)('no error is UNKNOWN: %s', async (_name, thrown) => {
    const answers: Partial<BlockJobs>[] = [
      // oxlint-disable-next-line typescript/only-throw-error
      {
        getInfo: () => {
          throw thrown;
        },
        watch: () => {
          throw thrown;
        },
      },
      { getInfo: async () => await Promise.reject(thrown), watch: () => failing(0, thrown) },
      { getInfo: async () => await Promise.reject(thrown), watch: () => failing(3, thrown) },
    ];
    for (const [sent, jobs] of [0, 0, 3].map((count, index) => [count, answers[index] ?? {}] as const)) {
      await using server = await serving(transport, jobs);
      const unary = refused(callRaw(server.jobs, `${JOBS}/GetInfo`, GET_INFO));
      expect(await within(20_000, 'an answer', unary)).toMatchObject({ code: status.INTERNAL, reason: 'BUG' });
      const { messages, error } = await within(20_000, 'the end of the watch', collect(server.jobs.watchJob(WATCH)));
      expect(messages).toHaveLength(sent);
      expect(refusalOf(error)).toMatchObject({ code: status.INTERNAL, reason: 'BUG' });
    }
  });

  test.each([
    ['undefined', undefined],
    ['an empty object', {}],
    ['a job that lacks what it must have', { job: { state: 'RUNNING' } }],
    ['numbers that no message can hold', { job: { ...VIEW.job, revision: 2 ** 63 } }],
    ['values that are not numbers', { job: { ...VIEW.job, revision: Number.NaN } }],
    ['a value that is not a time', { job: { ...VIEW.job, createTime: 'yesterday' } }],
  ])('an answer that cannot be sent is INTERNAL: %s', async (_name, answer) => {
    await using server = await serving(transport, {
      getInfo: async () => await Promise.resolve(answer as never),
      watch: () => only(answer as never),
    });
    const unary = callRaw(server.jobs, `${JOBS}/GetInfo`, GET_INFO).catch((error: unknown) => error);
    expect(await within(20_000, 'an answer', unary)).toMatchObject({ code: status.INTERNAL });
    const { error } = await within(20_000, 'the end of the watch', collect(server.jobs.watchJob(WATCH)));
    expect(error).toMatchObject({ code: status.INTERNAL });
    // The server is healthy.
    expect(await startCopyError(server.jobs)).toMatchObject({ code: status.INTERNAL });
  });

  test('an event for many watchers is encoded once', async () => {
    let made = 0;
    const job = {
      ...VIEW.job,
      get requestId() {
        made += 1;
        return '';
      },
    };
    const time = VIEW.job.createTime;
    const shared = new JobEvent({ type: 'STATE', time, job, progress: undefined, detail: 'to all' });
    await using server = await serving(transport, { watch: () => only(shared) });
    const watches = Array.from({ length: 20 }, async () => await collect(server.jobs.watchJob(WATCH)));
    const ended = await within(20_000, 'the end of the watches', Promise.all(watches));
    expect(ended.map(({ messages }) => messages.map((message) => message.event?.detail))).toEqual(
      Array.from({ length: 20 }, () => ['to all']),
    );
    expect(made).toBe(1);
  });

  test('a slow reader stops the source, and costs no memory', async () => {
    let produced = 0;
    const endless = async function* (_request: unknown, { signal }: Call): AsyncGenerator<JobEvent> {
      while (!signal.aborted) {
        produced += 1;
        yield event('PROGRESS');
        // If the server does not stop it, the test has to fail, and not to hang.
        if (produced % 50 === 0) await nextTurn();
      }
    };
    await using server = await serving(transport, { watch: endless, getInfo: async () => await Promise.resolve(VIEW) });
    const stream = server.jobs.watchJob(WATCH);
    await once(stream, 'data');
    stream.pause();
    // Each round trip gives the server the time for thousands of events, if nothing stopped it.
    const seen: number[] = [];
    for (let round = 0; round < 300; round += 1) {
      await callRaw(server.jobs, `${JOBS}/GetInfo`, GET_INFO);
      seen.push(produced);
    }
    expect(seen.at(-1)).toBeLessThan(2000);
    expect(seen.at(-1)).toBe(seen.at(150));
    // It continues where it stopped, as soon as it is read again.
    const before = produced;
    const more = new Promise<void>((resolve) => {
      let read = 0;
      stream.on('data', () => {
        read += 1;
        if (read > before + 100) resolve();
      });
    });
    stream.on('error', () => undefined).resume();
    await within(10_000, 'more events', more);
    stream.cancel();
  });

  test.each(['a deadline that passes', 'a cancel'])('%s aborts the signal of the call', async (how) => {
    const left: Record<string, PromiseWithResolvers<void>> = {
      unary: Promise.withResolvers(),
      watch: Promise.withResolvers(),
    };
    const begun: Record<string, PromiseWithResolvers<void>> = {
      unary: Promise.withResolvers(),
      watch: Promise.withResolvers(),
    };
    const finished = Promise.withResolvers<void>();
    const waiting = async (name: string, signal: AbortSignal) => {
      begun[name]?.resolve();
      if (!signal.aborted) await once(signal, 'abort');
      left[name]?.resolve();
    };
    await using server = await serving(transport, {
      getInfo: async (_job, { signal }) => {
        await waiting('unary', signal);
        return VIEW;
      },
      watch: async function* (_request, { signal }) {
        try {
          yield event('SNAPSHOT');
          await waiting('watch', signal);
        } finally {
          finished.resolve();
        }
      },
    });
    // Connected before: the whole time is for the calls.
    await startCopyError(server.jobs);
    const options = how === 'a deadline that passes' ? { deadline: Date.now() + 2000 } : {};
    const call = server.jobs.makeUnaryRequest(
      `${JOBS}/GetInfo`,
      identity,
      identity,
      GET_INFO,
      options,
      () => undefined,
    );
    const stream = server.jobs.watchJob(WATCH, options);
    const ended = collect(stream);
    await within(
      20_000,
      'both have begun',
      Promise.all(Object.values(begun).map(async ({ promise }) => await promise)),
    );
    if (how === 'a cancel') {
      call.cancel();
      stream.cancel();
    }
    await within(20_000, 'both have left', Promise.all(Object.values(left).map(async ({ promise }) => await promise)));
    expect(await within(20_000, 'the source is finished', finished.promise)).toBeUndefined();
    const code = how === 'a cancel' ? status.CANCELLED : status.DEADLINE_EXCEEDED;
    expect((await ended).error).toMatchObject({ code });
  });

  test('a client that vanishes aborts the signal of its call', async () => {
    const begun = Promise.withResolvers<void>();
    const left = Promise.withResolvers<void>();
    await using server = await serving(transport, {
      getInfo: async (_job, { signal }) => {
        begun.resolve();
        if (!signal.aborted) await once(signal, 'abort');
        left.resolve();
        return VIEW;
      },
    });
    const socket =
      transport === 'unix'
        ? { path: server.address.slice('unix:'.length) }
        : { port: Number(server.address.split(':')[1]) };
    const session = connectHttp2('http://localhost', { createConnection: () => connect(socket) });
    session.on('error', () => undefined);
    const headers = {
      ':method': 'POST',
      ':path': `${JOBS}/GetInfo`,
      'content-type': 'application/grpc',
      te: 'trailers',
    };
    const stream = session.request(headers);
    stream.on('error', () => undefined);
    stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, GET_INFO.length]), GET_INFO]));
    await within(20_000, 'the call', begun.promise);
    session.destroy();
    expect(await within(20_000, 'the signal', left.promise)).toBeUndefined();
  });

  test('a change whose caller leaves is in the audit log: it may be done nevertheless', async () => {
    const entered = Promise.withResolvers<void>();
    const left = Promise.withResolvers<void>();
    await using server = await serving(transport, {
      startCopy: async (_request, { signal }) => {
        entered.resolve();
        await once(signal, 'abort');
        left.resolve();
        throw signal.reason;
      },
    });
    const request = StartCopyRequest.fromPartial({ disk: { domain: 'vm1', disk: 'vd0' } });
    const running = server.jobs.startCopy(request, () => undefined);
    await entered.promise;
    running.cancel();
    await left.promise;
    await nextTurn();
    expect(server.log).toContainEqual(expect.objectContaining({ msg: 'audit: StartCopy left' }));
  });

  test('changes of callers that may make them and then leave are all in the audit log, however many', async () => {
    let entered = Promise.withResolvers<void>();
    await using server = await serving(transport, {
      startCopy: async ({ disk: { domain } }, call) => {
        mustOperate(call, domain, failure('DOMAIN_NOT_FOUND', { domain }));
        entered.resolve();
        await once(call.signal, 'abort');
        throw call.signal.reason;
      },
    });
    for (let n = 0; n < 15; n += 1) {
      entered = Promise.withResolvers<void>();
      const request = StartCopyRequest.fromPartial({ disk: { domain: `vm${n}`, disk: 'vd0' } });
      const running = server.jobs.startCopy(request, () => undefined);
      await within(20_000, 'the call', entered.promise);
      running.cancel();
    }
    const lines = await eventually('a line for each', () => {
      const found = server.log.filter((line) => JSON.stringify(line).includes('audit: StartCopy left'));
      return found.length === 15 ? found : undefined;
    });
    // And each names its caller.
    const addresses = new Set(lines.map((line) => (line as { readonly address: string }).address));
    expect([...addresses].join()).toMatch(transport === 'tcp' ? /^127\.0\.0\.1:\d+$/ : /^unknown$/);
  });

  test('a call ends when its caller leaves, even if nobody listens to that', async () => {
    const entered = Promise.withResolvers<void>();
    await using server = await serving(transport, {
      setSpeed: async () => {
        entered.resolve();
        return await new Promise(() => undefined);
      },
    });
    const running = server.jobs.setSpeed(SetSpeedRequest.fromPartial({ job: JOB }), () => undefined);
    await entered.promise;
    running.cancel();
    const left = 'audit: SetSpeed left';
    const isLeft = (line: unknown) => JSON.stringify(line).includes(left);
    expect(await eventually(left, () => server.log.find(isLeft))).toMatchObject({ msg: left });
  });

  test('drains: NOT_SERVING, watches end UNAVAILABLE, calls under way get their answer, new ones are refused', async () => {
    const order: string[] = [];
    const underWay = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    const watched = Promise.withResolvers<void>();
    await using server = await serving(transport, {
      getInfo: async () => {
        underWay.resolve();
        await finish.promise;
        return VIEW;
      },
      watch: async function* (_request, { signal }) {
        yield event('SNAPSHOT');
        watched.resolve();
        if (!signal.aborted) await once(signal, 'abort');
      },
    });
    expect(await server.healthNow()).toBe('SERVING');
    const watchingHealth = server.watchHealth();
    const notServing = new Promise<void>((resolve) => {
      watchingHealth
        .on('error', () => undefined)
        .on('data', (answer: { status: string }) => {
          if (answer.status !== 'NOT_SERVING') return;
          order.push('NOT_SERVING');
          resolve();
        });
    });
    const watching = collect(server.jobs.watchJob(WATCH)).then((ended) => {
      order.push('watch ended');
      return ended;
    });
    const call = callRaw(server.jobs, `${JOBS}/GetInfo`, GET_INFO);
    await within(20_000, 'the call and the watch', Promise.all([underWay.promise, watched.promise]));

    const drained = server.drain(20_000).then(() => order.push('drained'));
    await within(20_000, 'NOT_SERVING', notServing);
    const { messages, error } = await within(20_000, 'the end of the watch', watching);
    expect(messages).toHaveLength(1);
    expect(refusalOf(error)).toMatchObject({ code: status.UNAVAILABLE, reason: 'DRAINING' });
    expect(retryInfo(error)).toMatchObject({ retryDelay: { seconds: 1n } });
    expect(await startCopyError(server.jobs)).toMatchObject({ code: status.UNAVAILABLE });
    watchingHealth.cancel();
    finish.resolve();
    await within(20_000, 'the answer', call);
    await within(20_000, 'the drain', drained);
    expect(order).toEqual(['NOT_SERVING', 'watch ended', 'drained']);
  });

  test('a call that does not end within the grace is told so, and the drain ends', async () => {
    const underWay = Promise.withResolvers<void>();
    await using server = await serving(transport, {
      getInfo: async (_job, { signal }) => {
        underWay.resolve();
        await once(signal, 'abort');
        throw signal.reason;
      },
    });
    const call = refused(callRaw(server.jobs, `${JOBS}/GetInfo`, GET_INFO));
    await within(20_000, 'the call', underWay.promise);
    const drained = server.drain(200);
    expect(await within(20_000, 'the answer', call)).toMatchObject({ code: status.UNAVAILABLE, reason: 'DRAINING' });
    await within(20_000, 'the drain', drained);
  });

  test('a call that never ends does not keep the server', async () => {
    const underWay = Promise.withResolvers<void>();
    await using server = await serving(transport, {
      getInfo: async () => {
        underWay.resolve();
        return await new Promise(() => undefined);
      },
    });
    const call = callRaw(server.jobs, `${JOBS}/GetInfo`, GET_INFO).catch((error: unknown) => error);
    await within(20_000, 'the call', underWay.promise);
    await within(20_000, 'the drain', server.drain(100));
    expect(await call).toMatchObject({ code: status.UNAVAILABLE });
  });
});

describe('a stream of another service', () => {
  test('that never ends does not keep the server: a watch of health', async () => {
    await using server = await serving('unix', {});
    const watch = server.watchHealth();
    const ended = collect(watch);
    await once(watch, 'data');
    await within(20_000, 'the drain', server.drain(100));
    expect((await ended).error).toMatchObject({ code: expect.any(Number) });
  });

  test('leaves nothing of unknown names', async () => {
    await using server = await serving('unix', {});
    const watch = async (count: number) => {
      const watching = server.watchHealth(`${count}`.padEnd(150_000, 'x'));
      const ended = collect(watching);
      const [answer] = (await once(watching, 'data')) as [unknown];
      expect(answer).toMatchObject({ status: 'SERVICE_UNKNOWN' });
      watching.cancel();
      await ended;
    };
    await watch(0);
    const before = heapBytes();
    for (let count = 1; count <= 300; count += 1) await watch(count);
    expect(heapBytes() - before).toBeLessThan(15_000_000);
  });
});

/** The heap in use, without garbage. */
function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc()');
  return process.memoryUsage().heapUsed;
}

async function* failing(after: number, error: unknown): AsyncGenerator<JobEvent> {
  for (let count = 0; count < after; count += 1) yield event('PROGRESS');
  throw error;
}

async function* only(one: JobEvent): AsyncGenerator<JobEvent> {
  yield one;
}

function retryInfo(error: unknown): RetryInfo {
  const [bytes] = (error as ServiceError).metadata.get('grpc-status-details-bin');
  const details = Status.decode(bytes as Buffer).details;
  const detail = details.find(({ typeUrl }) => typeUrl.endsWith('google.rpc.RetryInfo'));
  return RetryInfo.decode(detail?.value ?? Buffer.alloc(0));
}
