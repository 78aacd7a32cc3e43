/** The page's server: the callers that it answers, and the part of the contract behind it. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, request as startRequest } from 'node:http';
import { connect } from 'node:net';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BlockJobService } from '../../../generated/es/blockjob/v1/block_job_service_pb.js';
import { DomainService } from '../../../generated/es/blockjob/v1/domain_service_pb.js';
import { Job_State, JobEvent_Kind } from '../../../generated/es/blockjob/v1/job_pb.js';
import { ServerService } from '../../../generated/es/blockjob/v1/server_service_pb.js';
import { ErrorInfoSchema } from '../../../generated/es/google/rpc/error_details_pb.js';
import type { BlockJobs } from '../../../src/core/block-jobs.ts';
import { BlockJobError, failure } from '../../../src/core/errors.ts';
import { NO_FOREIGN_JOBS } from '../../../src/core/foreign-job.ts';
import type { ServerInfo } from '../../../src/core/server-info.ts';
import { type RunningPage, servePage } from '../../../src/page/page.ts';
import { present } from '../../support/checks.ts';
import { toldBy } from '../../support/fake-qemu/told.ts';
import { event, NOTHING, VIEW } from '../../support/service/stub-server.ts';

const log = pino({ level: 'silent' });
const LOOPBACK = { host: '127.0.0.1', port: 0 };
const INFO: ServerInfo = { version: '1.2.3', build: 'dev', mode: 'SERVE', host: 'host1', startTime: new Date(0) };

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A request exactly as it is written here: a client that is not a browser can send anything. */
async function ask(
  url: string,
  headers: Readonly<Record<string, string>> = {},
  { method = 'GET', body = '' } = {},
): Promise<Answer> {
  const asked = startRequest(url, { method, headers });
  asked.end(body);
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const chunks = await response.toArray();
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: Buffer.concat(chunks as Buffer[]).toString(),
  };
}

function clientsOf({ url }: RunningPage) {
  const transport = createConnectTransport({ baseUrl: url, httpVersion: '1.1', useBinaryFormat: true });
  return { jobs: createClient(BlockJobService, transport), domains: createClient(DomainService, transport) };
}

async function serving(jobs: Partial<BlockJobs>): Promise<RunningPage & AsyncDisposable> {
  const page = await servePage({ ...NOTHING, ...jobs }, { at: LOOPBACK, info: INFO, log });
  return { ...page, [Symbol.asyncDispose]: async () => await page.drain() };
}

describe('its server', () => {
  let page: RunningPage;

  beforeAll(async () => {
    page = await servePage(NOTHING, { at: LOOPBACK, info: INFO, log });
  });

  afterAll(async () => {
    await page.drain();
  });

  test.each(['127.0.0.1', 'localhost', '127.0.0.1:8080', 'localhost:8080', '[::1]:8080'])(
    'answers a request that names this machine, through a tunnel too: %s',
    async (host) => {
      expect((await ask(page.url, { host })).status).toBe(200);
    },
  );

  test.each(['evil.example', 'evil.example:50080', '127.0.0.1.evil.example', 'localhost.evil.example', '192.0.2.1'])(
    'refuses a name that only leads here, as of a rebound page: "%s"',
    async (host) => {
      const { status, body } = await ask(page.url, { host });
      expect(status).toBe(403);
      expect(body).toContain('http://127.0.0.1:PORT/');
    },
  );

  test.each(['localhost:99999', '127.999.999.999', '[::1]:70000'])(
    'refuses a text that is not a name, and continues: "%s"',
    async (host) => {
      const call = { host, 'content-type': 'application/json', 'connect-protocol-version': '1' };
      const { status } = await ask(`${page.url}blockjob.v1.DomainService/ListDomains`, call, {
        method: 'POST',
        body: '{}',
      });
      expect(status).toBe(403);
      expect((await ask(page.url)).status).toBe(200);
    },
  );

  test.each([
    ['another site', { origin: 'https://evil.example' }],
    ['another port of this machine', { origin: 'http://127.0.0.1:1' }],
    ['a sandboxed frame', { origin: 'null' }],
    ['another site, without an Origin', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }],
    ['another port, without an Origin', { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' }],
  ])('refuses what %s asks for', async (_who, headers) => {
    expect((await ask(page.url, headers)).status).toBe(403);
    const post = { method: 'POST', body: '{}' };
    const call = { ...headers, 'content-type': 'application/json', 'connect-protocol-version': '1' };
    expect((await ask(`${page.url}blockjob.v1.BlockJobService/ListJobs`, call, post)).status).toBe(403);
  });

  test('accepts a link from elsewhere', async () => {
    const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' };
    expect((await ask(page.url, link)).status).toBe(200);
  });

  test('lets its page load and run only its own files, and no page frame it', async () => {
    const { headers, body } = await ask(page.url);
    const policy = String(headers['content-security-policy']);
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).toContain("require-trusted-types-for 'script'");
    expect(policy).not.toMatch(/unsafe|\*|https?:|data:/);
    expect(headers['cross-origin-resource-policy']).toBe('same-origin');
    expect(body).not.toMatch(/<style|style=|<script>|\son[a-z]+=|https?:/);
  });

  test('has those files and no others', async () => {
    for (const path of ['', 'page.js', 'page.css', 'icon.svg', '?x=1']) {
      expect((await ask(page.url + path)).status).toBe(200);
    }
    for (const path of [
      'index.html',
      'page.ts',
      '..%2f..%2fpackage.json',
      '%2e%2e/package.json',
      'generated/page/page.js',
    ]) {
      expect((await ask(page.url + path)).status).toBe(404);
    }
    expect((await ask(page.url, {}, { method: 'POST' })).status).toBe(405);
    expect(await ask(page.url, {}, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
  });

  const READING =
    'getInfo listJobs watchJob watchJobs listLeftovers listDomains getDomain checkOperation getServerInfo'.split(' ');
  const methods = [BlockJobService, DomainService, ServerService].flatMap(({ typeName, methods: all }) =>
    all.map(({ name, localName }) => ({ path: `${typeName}/${name}`, isReading: READING.includes(localName) })),
  );

  test.each(methods.filter(({ isReading }) => !isReading))(
    'has no $path, which changes something',
    async ({ path }) => {
      for (const type of ['application/json', 'application/proto', 'application/grpc-web+proto', 'application/grpc']) {
        const headers = { 'content-type': type, 'connect-protocol-version': '1' };
        expect((await ask(page.url + path, headers, { method: 'POST' })).status).toBe(404);
      }
    },
  );

  test('has all calls that read, for clients that say that they speak Connect', async () => {
    const reading = methods.filter(({ isReading }) => isReading);
    expect(reading).toHaveLength(READING.length);
    for (const { path } of reading) {
      const type = /WatchJobs?$/.test(path) ? 'application/connect+json' : 'application/json';
      const post = { method: 'POST', body: '{}' };
      const silent = await ask(page.url + path, { 'content-type': type }, post);
      expect(silent.body).toContain('missing required header');
      expect(
        (await ask(page.url + path, { 'content-type': type, 'connect-protocol-version': '1' }, post)).status,
      ).not.toBe(404);
    }
  });
});

describe('an answer', () => {
  test('is that of gRPC, message for message', async () => {
    const asked: unknown[] = [];
    await using page = await serving({
      listJobs: async (request) => {
        asked.push(request);
        return await Promise.resolve({
          items: [VIEW],
          nextPageToken: 'more',
          unreachableHosts: ['host2'],
          ...NO_FOREIGN_JOBS,
        });
      },
    });
    const { jobs } = clientsOf(page);
    const answer = await jobs.listJobs({ domain: 'vm1', stateFilter: [Job_State.READY], pageSize: 7, pageToken: 'x' });
    const filter = { domain: 'vm1', labels: {}, createdBy: '' };
    expect(asked).toEqual([{ ...filter, states: ['READY'], pageSize: 7, pageToken: 'x' }]);
    expect(answer).toMatchObject({ nextPageToken: 'more', unreachableHosts: ['host2'] });
    expect(answer.jobs).toMatchObject([
      { id: VIEW.job.accepted.job, disk: { domain: 'vm1', disk: 'vd0' }, state: Job_State.STARTING, revision: 1n },
    ]);
  });

  test('that is an error has the code, the words and the details of gRPC', async () => {
    await using page = await serving({
      getInfo: async () => await Promise.reject(new BlockJobError(failure('JOB_NOT_FOUND', { job: 'bj1' }))),
    });
    const job = { name: { case: 'jobId', value: 'bj1' } } as const;
    const error = ConnectError.from(
      await clientsOf(page)
        .jobs.getInfo({ job })
        .catch((thrown: unknown) => thrown),
    );
    expect(error).toMatchObject({
      code: Code.NotFound,
      rawMessage: expect.stringMatching(/^JOB_NOT_FOUND: no job has the id bj1/),
    });
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: 'JOB_NOT_FOUND', metadata: { job: 'bj1' } }]);
    const nothing = ConnectError.from(
      await clientsOf(page)
        .jobs.getInfo({})
        .catch((thrown: unknown) => thrown),
    );
    expect(nothing.code).toBe(Code.InvalidArgument);
  });

  test('to a bug is its id, and not its words', async () => {
    await using page = await serving({ listDomains: async () => await Promise.reject(new Error('the secret')) });
    const error = ConnectError.from(
      await clientsOf(page)
        .domains.listDomains({})
        .catch((thrown: unknown) => thrown),
    );
    expect(error.code).toBe(Code.Internal);
    expect(error.rawMessage).toMatch(/^BUG: /);
    expect(JSON.stringify(error)).not.toContain('secret');
  });
});

/** Sends one event, and then nothing until it is left. */
function endless() {
  const left = Promise.withResolvers<void>();
  const watch: BlockJobs['watch'] = async function* (_request, { signal }) {
    try {
      yield event('STATE', 'accepted');
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    } finally {
      left.resolve();
    }
  };
  return { watch, left: left.promise };
}

describe('a watch', () => {
  const JOB = { job: { name: { case: 'jobId', value: 'bj1' } }, afterRevision: 0n } as const;

  test('that its browser leaves is ended here too', async () => {
    const { watch, left } = endless();
    await using page = await serving({ watch });
    const leave = new AbortController();
    const watching = (async () => {
      for await (const { event: first } of clientsOf(page).jobs.watchJob(JOB, { signal: leave.signal })) {
        expect(first).toMatchObject({ kind: JobEvent_Kind.STATE, detail: 'accepted', revision: 1n });
        leave.abort();
      }
    })();
    await expect(watching).rejects.toMatchObject({ code: Code.Canceled });
    await left;
  });

  test('ends with DRAINING when the service does, which is soon', async () => {
    const { watch, left } = endless();
    const page = await serving({ watch });
    const heard: string[] = [];
    const began = performance.now();
    const watching = (async () => {
      for await (const { event: one } of clientsOf(page).jobs.watchJob(JOB)) {
        heard.push(present(one).detail);
        void page.drain();
      }
    })();
    const error = ConnectError.from(await watching.catch((thrown: unknown) => thrown));
    await left;
    expect(heard).toEqual(['accepted']);
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: 'DRAINING' }]);
    expect(performance.now() - began).toBeLessThan(5000);
  });
});

describe('the option --page', () => {
  const SERVE = ['serve', '--qmp', 'vm1=/x'];

  test.each([
    ['serve', SERVE, { host: '127.0.0.1', port: 50080, isAsked: false }],
    ['gateway', ['gateway', '--hosts', '/x'], { host: '127.0.0.1', port: 50080, isAsked: false }],
    ['agent, of which a gateway shows all', ['agent', '--qmp', 'vm1=/x'], undefined],
    ['serve --page off', [...SERVE, '--page', 'off'], undefined],
    ['serve --page [::1]:1', [...SERVE, '--page', '[::1]:1'], { host: '::1', port: 1, isAsked: true }],
    ["serve on a unix socket, which is its owner's alone", [...SERVE, '--listen', 'unix:/x'], undefined],
  ])('of %s comes to what it says', async (_what, args, page) => {
    expect((await toldBy(args)).page).toEqual(page);
  });

  test('of a port in use ends the start, and says what to do', async () => {
    const other = createServer();
    await once(other.listen(0, '127.0.0.1'), 'listening');
    using _ = { [Symbol.dispose]: () => void other.close() };
    const address = other.address();
    const port = typeof address === 'object' ? present(address ?? undefined).port : 0;
    await expect(servePage(NOTHING, { at: { host: '127.0.0.1', port }, info: INFO, log })).rejects.toThrow(
      `the page cannot be served on 127.0.0.1:${port}: the port is in use; choose another port with --page HOST:PORT, or go without it: --page off`,
    );
  });
});

test('a hundred connections at a time, and one more is closed as it comes', async () => {
  await using page = await serving({});
  const port = Number(new URL(page.url).port);
  const open = async () => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  };
  const sockets = await Promise.all(Array.from({ length: 100 }, open));
  const more = await open();
  more.resume();
  await once(more, 'close');
  expect(sockets.filter(({ destroyed }) => destroyed)).toEqual([]);
  for (const socket of sockets) socket.destroy();
});
