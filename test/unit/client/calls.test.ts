/** Calls with one answer: their messages, and what happens to them if the service goes away meanwhile. */
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { describe, expect, it, vi } from 'vitest';
import { BlockJobClient, BlockJobError, errorOfStatus, fromMs, type Retry, toMs } from '../../../src/client/index.ts';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import { failure, BlockJobError as ServiceError, violation } from '../../../src/core/errors.ts';
import { NO_FOREIGN_JOBS } from '../../../src/core/foreign-job.ts';
import type { CopyRequest } from '../../../src/core/requests.ts';
import { Certificates } from '../../../src/grpc/certificates.ts';
import { serve } from '../../../src/grpc/server.ts';
import { statusOf } from '../../../src/grpc/status.ts';
import { TcpProxy } from '../../support/hostile/tcp-proxy.ts';
import { testDir } from '../../support/real-qemu/qemu.ts';
import { Authority } from '../../support/service/certificates.ts';
import { INFO, serving, VIEW } from '../../support/service/stub-server.ts';

const JOB = { name: { $case: 'jobId', value: 'bj1' } } as const;
const DISK = { domain: 'vm1', disk: 'vd0' };
const PAGE = { items: [], nextPageToken: '', unreachableHosts: [] };
const JOBS_PAGE = { ...PAGE, ...NO_FOREIGN_JOBS };
const UUID = /^[0-9a-f-]{36}$/;

async function errorOf(call: Promise<unknown>): Promise<BlockJobError> {
  const error: unknown = await call.then(
    () => undefined,
    (one: unknown) => one,
  );
  if (error instanceof BlockJobError) return error;
  throw new Error('no BlockJobError', { cause: error });
}

const never = async () => await Promise.withResolvers<never>().promise;

/** BlockJobs that record their requests. */
function recording(): { jobs: Partial<BlockJobs>; asked: (readonly [string, string | undefined])[] } {
  const asked: (readonly [string, string | undefined])[] = [];
  const does =
    <Answer>(method: string, answer: Answer) =>
    async (request: unknown): Promise<Answer> => {
      await Promise.resolve();
      asked.push([method, (request as { requestId?: string }).requestId]);
      return answer;
    };
  const domain = { name: 'vm1', uuid: '', host: 'h', connection: { up: false, why: OFFLINE } } as const;
  const jobs: Partial<BlockJobs> = {
    startCopy: does('startCopy', VIEW),
    rebase: does('rebase', VIEW),
    commit: does('commit', VIEW),
    getInfo: does('getInfo', VIEW),
    listJobs: does('listJobs', JOBS_PAGE),
    abort: does('abort', VIEW),
    setSpeed: does('setSpeed', VIEW),
    pause: does('pause', VIEW),
    resume: does('resume', VIEW),
    checkOperation: does('checkOperation', { reasons: [], blocking: [] }),
    listLeftovers: does('listLeftovers', PAGE),
    reclaim: does('reclaim', []),
    listDomains: does('listDomains', PAGE),
    getDomain: does('getDomain', { domain, disks: [] }),
  };
  return { jobs, asked };
}
const PATH_WRONG = violation('destination.file', 'PATH_NOT_ABSOLUTE', { field: 'destination.file', path: 'x' });
const OFFLINE = failure('QEMU_UNREACHABLE', { domain: 'vm1', why: 'a test' });

describe('a call', () => {
  it('exists for each call of the contract, and each write has a request_id of its own', async () => {
    const { jobs, asked } = recording();
    await using server = await serving('unix', jobs);
    using client = new BlockJobClient({ address: server.address });
    expect((await client.startCopy({ disk: DISK })).job?.id).toBe(VIEW.job.accepted.job);
    expect((await client.rebase({ disk: DISK })).job).toBeDefined();
    expect((await client.commit({ disk: DISK })).job).toBeDefined();
    expect((await client.setSpeed({ job: JOB })).job).toBeDefined();
    expect((await client.pause({ job: JOB })).job).toBeDefined();
    expect((await client.resume({ job: JOB })).job).toBeDefined();
    expect((await client.abort({ job: JOB })).job).toBeDefined();
    expect((await client.reclaim({ leftoverIds: ['x'] })).results).toEqual([]);
    const writes = asked.splice(0);
    expect(writes.map(([method]) => method)).toEqual(
      'startCopy rebase commit setSpeed pause resume abort reclaim'.split(' '),
    );
    for (const [, requestId] of writes) expect(requestId).toMatch(UUID);
    expect(new Set(writes.map(([, requestId]) => requestId)).size).toBe(writes.length);

    expect((await client.getInfo({ job: JOB })).job).toBeDefined();
    expect((await client.listJobs()).jobs).toEqual([]);
    expect((await client.listLeftovers()).leftovers).toEqual([]);
    expect((await client.listDomains()).domains).toEqual([]);
    expect((await client.getDomain({ domain: 'vm1' })).domain?.name).toBe('vm1');
    expect((await client.getServerInfo()).server?.version).toMatch(/^\d/);
    expect(await client.checkOperation({ domain: 'vm1', operation: 1 })).toEqual({
      allowed: true,
      reasons: [],
      blockingJobs: [],
    });
    expect(asked.map(([method]) => method)).toEqual(
      'getInfo listJobs listLeftovers listDomains getDomain checkOperation'.split(' '),
    );
  });

  it('keeps the given request_id', async () => {
    const { jobs, asked } = recording();
    await using server = await serving('unix', jobs);
    using client = new BlockJobClient({ address: server.address });
    await client.startCopy({ disk: DISK, requestId: 'mine' });
    expect(asked).toEqual([['startCopy', 'mine']]);
  });

  it('that is refused reports the words of the service, and is not repeated', async () => {
    let calls = 0;
    await using server = await serving('unix', {
      startCopy: async () => {
        calls += 1;
        await Promise.resolve();
        throw ServiceError.ofViolations([
          violation('disk', 'FIELD_INVALID', { field: 'disk', problem: 'is missing' }),
          violation('destination.file', 'PATH_NOT_ABSOLUTE', { field: 'destination.file', path: 'x' }),
        ]);
      },
    });
    using client = new BlockJobClient({ address: server.address });
    const error = await errorOf(client.startCopy({}));
    expect(error).toMatchObject({
      code: 'INVALID_ARGUMENT',
      reason: 'FIELD_INVALID',
      metadata: { field: 'disk' },
      isAnswer: true,
      mayPass: false,
      mayHaveHappened: false,
    });
    expect(error.violations).toEqual([
      { field: 'disk', reason: 'FIELD_INVALID', text: 'disk: is missing' },
      {
        field: 'destination.file',
        reason: 'PATH_NOT_ABSOLUTE',
        text: 'destination.file must be an absolute path, not "x"',
      },
    ]);
    expect(error.message).toBe(`FIELD_INVALID: ${error.text}`);
    expect(calls).toBe(1);
  });

  it('with a lost answer is repeated with the same request_id', async () => {
    const ids: string[] = [];
    const arrived = Promise.withResolvers<void>();
    await using server = await serving('tcp', {
      startCopy: async ({ requestId }: CopyRequest) => {
        ids.push(requestId);
        arrived.resolve();
        // The first answer never comes.
        if (ids.length === 1) await Promise.withResolvers<void>().promise;
        return VIEW;
      },
    });
    await using line = await TcpProxy.to(Number(server.address.split(':').at(-1)));
    const retries: Retry[] = [];
    using client = new BlockJobClient({ address: `127.0.0.1:${line.port}`, onRetry: (one) => retries.push(one) });
    const started = client.startCopy({ disk: DISK });
    await arrived.promise;
    line.cut();
    line.pass();
    expect((await started).job?.id).toBe(VIEW.job.accepted.job);
    expect(ids.length).toBe(2);
    expect(ids[0]).toMatch(UUID);
    expect(ids[1]).toBe(ids[0]);
    expect(retries.map(({ error }) => [error.code, error.isAnswer, error.mayHaveHappened])).toEqual([
      ['UNAVAILABLE', false, true],
    ]);
  });

  it('is repeated after the time in RetryInfo', async () => {
    let calls = 0;
    await using server = await serving('unix', {
      listJobs: async () => {
        calls += 1;
        await Promise.resolve();
        if (calls === 1) throw new ServiceError(failure('DIRECTORY_UNREACHABLE', { why: 'a test', what: 'x' }));
        return JOBS_PAGE;
      },
    });
    const retries: Retry[] = [];
    using client = new BlockJobClient({ address: server.address, onRetry: (one) => retries.push(one) });
    const before = performance.now();
    await client.listJobs();
    expect(performance.now() - before).toBeGreaterThan(700);
    expect(retries.map(({ error }) => [error.reason, error.retryDelayMs])).toEqual([['DIRECTORY_UNREACHABLE', 1000]]);
    expect(retries[0]?.delayMs).toBeGreaterThanOrEqual(750);
    expect(calls).toBe(2);
  });

  it('ends with its deadline: the effect of a write is not known then, a read has none', async () => {
    await using server = await serving('unix', { abort: never, getInfo: never });
    using client = new BlockJobClient({ address: server.address });
    // Connected before: a call that was never sent has no effect.
    await client.getServerInfo();
    const late = { code: 'DEADLINE_EXCEEDED', reason: '', isAnswer: false };
    const write = await errorOf(client.abort({ job: JOB }, { timeoutMs: 200 }));
    expect(write).toMatchObject({ ...late, mayHaveHappened: true });
    const read = await errorOf(client.getInfo({ job: JOB }, { timeoutMs: 200 }));
    expect(read).toMatchObject({ ...late, mayHaveHappened: false });
  });

  it('to a service that does not answer ends when its patience is over, without effect', async () => {
    using client = new BlockJobClient({ address: ['unix:/nobody/a.sock', 'unix:/nobody/b.sock'], patienceMs: 300 });
    const error = await errorOf(client.startCopy({ disk: DISK }));
    expect(error).toMatchObject({ code: 'UNAVAILABLE', isAnswer: false, mayPass: true, mayHaveHappened: false });
    expect(error.message).toContain('unix:/nobody/');
    const late = await errorOf(client.startCopy({ disk: DISK }, { patienceMs: Infinity, timeoutMs: 300 }));
    // Between two attempts; or during one that gRPC may or may not have sent.
    expect(['UNAVAILABLE false', 'DEADLINE_EXCEEDED false', 'DEADLINE_EXCEEDED true']).toContain(
      `${late.code} ${late.mayHaveHappened}`,
    );
  });

  it('that was lost with the service may have happened', async () => {
    const arrived = Promise.withResolvers<void>();
    await using server = await serving('tcp', {
      startCopy: async () => {
        arrived.resolve();
        return await Promise.withResolvers<never>().promise;
      },
    });
    await using line = await TcpProxy.to(Number(server.address.split(':').at(-1)));
    using client = new BlockJobClient({ address: `127.0.0.1:${line.port}`, patienceMs: 300 });
    const started = errorOf(client.startCopy({ disk: DISK }));
    await arrived.promise;
    line.cut();
    expect(await started).toMatchObject({ code: 'UNAVAILABLE', mayHaveHappened: true });
  });

  it.each([
    ['DRAINING', failure('DRAINING', {}), true],
    ['HOST_UNREACHABLE', failure('HOST_UNREACHABLE', { host: 'h', why: 'a test' }), true],
    ['DIRECTORY_UNREACHABLE', failure('DIRECTORY_UNREACHABLE', { why: 'a test', what: 'x' }), false],
    ['QEMU_UNREACHABLE', OFFLINE, false],
  ] as const)('answered with %s may have happened, or not', async (reason, words, mayHaveHappened) => {
    const refuse = async () => await Promise.reject(new ServiceError(words));
    await using server = await serving('unix', { startCopy: refuse, getInfo: refuse });
    using client = new BlockJobClient({ address: server.address, patienceMs: 0 });
    const write = await errorOf(client.startCopy({ disk: DISK }));
    expect(write).toMatchObject({ reason, mayPass: true, mayHaveHappened });
    expect(await errorOf(client.getInfo({ job: JOB }))).toMatchObject({ reason, mayHaveHappened: false });
  });

  it.each([
    ['by a host that knows nothing of it', new ServiceError(failure('DOMAIN_NOT_FOUND', { domain: 'vm1' })), true],
    ['as the host lost the VM', new ServiceError(failure('NOT_OWNER', { host: 'h', domain: 'vm1', owner: 'i' })), true],
    ['as its id has another', new ServiceError(failure('REQUEST_ID_REUSED', { requestId: 'x', job: 'bj1' })), false],
    ['as its arguments are wrong', ServiceError.ofViolations([PATH_WRONG]), false],
  ] as const)('that is refused after a lost attempt: %s', async (_what, refusal, mayHaveHappened) => {
    let calls = 0;
    await using server = await serving('unix', {
      startCopy: async () => {
        calls += 1;
        return await Promise.reject(calls === 1 ? new ServiceError(failure('DRAINING', {})) : refusal);
      },
    });
    using client = new BlockJobClient({ address: server.address });
    const error = await errorOf(client.startCopy({ disk: DISK }));
    expect(error).toMatchObject({ reason: refusal.failure.reason, mayPass: false, mayHaveHappened });
  });

  it('does not wait for long for a host that swallows its packets', async () => {
    const { jobs } = recording();
    await using server = await serving('tcp', jobs);
    await using mute = await TcpProxy.to(Number(server.address.split(':').at(-1)));
    mute.hole();
    using client = new BlockJobClient({ address: [`127.0.0.1:${mute.port}`, server.address] });
    await client.listJobs();
    expect(client.address).toBe(server.address);
  });

  it('keeps its deadline while there is no connection yet', async () => {
    const { jobs } = recording();
    await using server = await serving('tcp', jobs);
    await using mute = await TcpProxy.to(Number(server.address.split(':').at(-1)));
    mute.hole();
    using client = new BlockJobClient({ address: `127.0.0.1:${mute.port}` });
    const before = performance.now();
    const error = await errorOf(client.startCopy({ disk: DISK }, { timeoutMs: 300 }));
    expect(error).toMatchObject({ code: 'DEADLINE_EXCEEDED', mayHaveHappened: false });
    const watched = errorOf(client.watchJob({ job: JOB }, { timeoutMs: 300 }).next());
    expect(await watched).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    expect(performance.now() - before).toBeLessThan(10_000);
  });

  it('without patience is sent once', async () => {
    const clock = vi.spyOn(performance, 'now').mockReturnValue(7);
    try {
      const retries: Retry[] = [];
      using nobody = new BlockJobClient({ address: 'unix:/nobody/a.sock', onRetry: (one) => retries.push(one) });
      expect((await errorOf(nobody.listJobs({}, { patienceMs: 0 }))).code).toBe('UNAVAILABLE');
      expect(retries).toEqual([]);
    } finally {
      clock.mockRestore();
    }
  });

  it('does not use a web proxy', async () => {
    const { jobs } = recording();
    await using server = await serving('tcp', jobs);
    for (const variable of ['grpc_proxy', 'http_proxy', 'https_proxy']) vi.stubEnv(variable, 'http://127.0.0.1:1');
    vi.stubEnv('no_proxy', '');
    vi.stubEnv('no_grpc_proxy', '');
    try {
      using client = new BlockJobClient({ address: server.address, patienceMs: 0 });
      expect((await client.listJobs()).jobs).toEqual([]);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  it('ends with the reason of its signal', async () => {
    const stop = new AbortController();
    const left = Promise.withResolvers<void>();
    await using server = await serving('unix', {
      getInfo: async (_job, { signal }) => {
        signal.addEventListener('abort', () => left.resolve());
        stop.abort(new Error('enough'));
        return await Promise.withResolvers<never>().promise;
      },
    });
    using client = new BlockJobClient({ address: server.address });
    await expect(client.getInfo({ job: JOB }, { signal: stop.signal })).rejects.toThrow('enough');
    await left.promise;
    await expect(client.getInfo({ job: JOB }, { signal: stop.signal })).rejects.toThrow('enough');
    const soon = { signal: AbortSignal.timeout(200) };
    using nobody = new BlockJobClient({ address: 'unix:/nobody/a.sock', patienceMs: Infinity });
    await expect(nobody.getInfo({ job: JOB }, soon)).rejects.toThrow('timeout');
  });
});

describe('with TLS', () => {
  it("files and bytes work, the certificate must have the server's name, and plaintext is refused", async () => {
    await using dir = await testDir('bj-client-tls-');
    const authority = await Authority.make(dir.path);
    const { certificateFile: cert, privateKeyFile: key } = await authority.sign('both');
    const log = pino({ level: 'silent' });
    const ca = authority.caFile;
    using certificates = new Certificates({ certificateFile: cert, privateKeyFile: key, caFile: ca }, log);
    const { jobs } = recording();
    const server = await serve(jobs as BlockJobs, {
      info: INFO,
      listen: { host: '127.0.0.1', port: 0 },
      certificates,
      log,
    });
    await using _end = { [Symbol.asyncDispose]: async () => await server.drain(0) };
    const { address } = server;
    using files = new BlockJobClient({ address, tls: { ca, cert, key } });
    expect((await files.listJobs()).jobs).toEqual([]);
    const pems = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) };
    using bytes = new BlockJobClient({ address, tls: { ...pems, serverName: 'localhost' } });
    expect((await bytes.listJobs()).jobs).toEqual([]);

    using other = new BlockJobClient({ address, tls: { ...pems, serverName: 'other' }, patienceMs: 0 });
    expect((await errorOf(other.listJobs())).message).toContain('not in the cert');
    using unsure = new BlockJobClient({ address, tls: {}, patienceMs: 0 });
    expect((await errorOf(unsure.listJobs())).message).toContain('certificate');
    using plain = new BlockJobClient({ address, patienceMs: 0 });
    expect((await errorOf(plain.listJobs())).code).toBe('UNAVAILABLE');
    expect(() => new BlockJobClient({ address, tls: { ca: '/nowhere.pem' } })).toThrow('ENOENT');
  });
});

describe('the end of a job', () => {
  it('is read in the same way as an error', () => {
    const error = errorOfStatus(statusOf(failure('NO_SPACE', { path: '/x', why: 'full' })));
    expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'NO_SPACE', metadata: { path: '/x' } });
    expect(error.message).toBe('NO_SPACE: no space left for /x: full');
    expect(errorOfStatus({ code: 99, message: 'of tomorrow', details: [] })).toMatchObject({
      code: 'UNKNOWN',
      reason: '',
      message: 'of tomorrow',
    });
  });

  it('and a duration is unchanged', () => {
    for (const ms of [0, 1, 999, 1000, 1500, 86_400_000]) expect(toMs(fromMs(ms))).toBe(ms);
    expect(toMs(undefined)).toBeUndefined();
  });
});
