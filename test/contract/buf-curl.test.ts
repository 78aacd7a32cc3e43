/** The service as seen by `buf curl`: it knows nothing beforehand, and learns everything by reflection. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { credentials, makeGenericClientConstructor, type ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bufCurl, decodeDetail, type Json } from '../support/buf.ts';
import { present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { makeChain, type Qemu, run, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { AS_BYTES } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const JOBS = 'blockjob.v1.BlockJobService';
const SERVICES = [
  'blockjob.v1.BlockJobService',
  'blockjob.v1.DomainService',
  'blockjob.v1.ServerService',
  'grpc.health.v1.Health',
];
const RPCS = [
  'Abort',
  'Commit',
  'GetInfo',
  'ListJobs',
  'ListLeftovers',
  'Pause',
  'Rebase',
  'Reclaim',
  'Resume',
  'SetSpeed',
  'StartCopy',
  'WatchJob',
  'WatchJobs',
];

describe.skipIf(needs('qemu'))('buf curl, by reflection', () => {
  describe.each(['unix', 'tcp'] as const)('over %s', (transport) => {
    const owned = new AsyncDisposableStack();
    let service: Service;
    let qemu: Qemu;
    let copies: string;

    beforeAll(async () => {
      const { path: dir } = owned.use(await testDir('bj-curl-'));
      copies = join(dir, 'copies');
      await mkdir(copies);
      const chain = await makeChain(dir, { formats: ['qcow2'], sizeBytes: 4 * 1024 * 1024 });
      qemu = owned.use(
        await startQemu({ style: 'blockdev', name: 'vm1', disks: [{ id: 'vd0', bus: 'virtio-blk', chain }] }),
      );
      const listen = transport === 'tcp' ? { listen: '127.0.0.1:0' } : {};
      service = owned.use(await Service.start({ dir, qmp: { vm1: qemu.qmpPath }, allow: [copies], ...listen }));
      await service.domainUp('vm1');
    });
    afterAll(async () => await owned.disposeAsync());

    const curl = async (what: string, request?: Json) => await bufCurl(service.address, what, request);
    const startCopy = async (file: string) =>
      await curl(`${JOBS}/StartCopy`, { disk: { domain: 'vm1', disk: 'vd0' }, destination: { file } });

    test('lists services and methods', async () => {
      const services = await curl('--list-services');
      expect(services).toMatchObject({ code: 0 });
      expect(services.stdout.trim().split('\n').toSorted()).toEqual(SERVICES);
      const methods = await curl('--list-methods');
      const ours = methods.stdout.split('\n').filter((line) => line.startsWith(`${JOBS}/`));
      expect(ours.toSorted()).toEqual(RPCS.map((rpc) => `${JOBS}/${rpc}`));
    });

    test('reports health', async () => {
      for (const name of ['', ...SERVICES.slice(0, 3)])
        expect(await curl('grpc.health.v1.Health/Check', { service: name })).toMatchObject({
          code: 0,
          messages: [{ status: 'SERVING' }],
        });
      const unknown = await curl('grpc.health.v1.Health/Check', { service: 'nobody' });
      expect(unknown).toMatchObject({ code: 5 << 3, error: { code: 'not_found' } });
    });

    test('says which program it is', async () => {
      const { messages } = await curl('blockjob.v1.ServerService/GetServerInfo', {});
      const [{ server } = {}] = messages as readonly { readonly server?: Readonly<Record<string, string>> }[];
      const { version, startTime, ...more } = present(server);
      expect(more).toEqual({ build: 'dev', mode: 'SERVER_MODE_SERVE', host: 'host-under-test' });
      expect(`blockjobd ${version} (dev)\n`).toBe((await run(process.execPath, ['src/main.ts', '--version'])).stdout);
      const uptimeMs = Date.now() - Date.parse(String(startTime));
      expect(uptimeMs).toBeGreaterThan(0);
      expect(uptimeMs).toBeLessThan(120_000);
    });

    test('starts a copy, watches it, reads it, and pivots', async () => {
      const destination = join(copies, 'vm1.qcow2');
      const started = await startCopy(destination);
      expect(started).toMatchObject({
        code: 0,
        messages: [{ job: { state: 'STATE_RUNNING', kind: 'JOB_KIND_COPY' } }],
      });
      const { id = '' } = (started.messages[0]?.['job'] ?? {}) as { id?: string };
      const job = { jobId: id };
      await service.until(id, 'STATE_READY');

      const info = await curl(`${JOBS}/GetInfo`, { job });
      expect(info).toMatchObject({
        code: 0,
        messages: [{ job: { id, state: 'STATE_READY', progress: { percent: 100 } } }],
      });
      const list = await curl(`${JOBS}/ListJobs`, { domain: 'vm1', stateFilter: ['STATE_READY'] });
      expect(list).toMatchObject({ code: 0, messages: [{ jobs: [{ id, state: 'STATE_READY' }] }] });

      const watching = curl(`${JOBS}/WatchJob`, { job, afterRevision: 0 });
      const aborted = await curl(`${JOBS}/Abort`, { job, pivot: true });
      expect(aborted).toMatchObject({ code: 0, messages: [{ job: { id, state: 'STATE_COMPLETED' } }] });
      const watched = await watching;
      expect(watched).toMatchObject({ code: 0 });
      const entries = watched.messages
        .map(({ event }) => event as Json)
        .filter(({ kind }) => kind === 'KIND_STATE' || kind === 'KIND_STEP');
      expect(entries.map(({ revision }) => Number(revision))).toEqual(entries.map((_, index) => index + 1));
      expect(entries.at(-1)).toMatchObject({ kind: 'KIND_STATE', job: { state: 'STATE_COMPLETED' } });
      expect((await qemu.admin.block('vd0')).inserted?.file).toBe(destination);

      const again = await curl(`${JOBS}/Abort`, { job });
      expect(again).toMatchObject({ code: 9 << 3, error: { code: 'failed_precondition' } });
    });

    test.each([
      [
        3,
        'invalid_argument',
        'PATH_NOT_ABSOLUTE',
        'StartCopy',
        { disk: { domain: 'vm1', disk: 'vd0' }, destination: { file: 'x' } },
      ],
      [5, 'not_found', 'JOB_NOT_FOUND', 'GetInfo', { job: { jobId: 'nobody' } }],
      [5, 'not_found', 'JOB_NOT_FOUND', 'WatchJob', { job: { jobId: 'nobody' } }],
      [
        7,
        'permission_denied',
        'DESTINATION_NOT_ALLOWED',
        'StartCopy',
        { disk: { domain: 'vm1', disk: 'vd0' }, destination: { file: '/tmp/x' } },
      ],
      [3, 'invalid_argument', 'FIELD_INVALID', 'Reclaim', {}],
      [10, 'aborted', 'PLAN_CHANGED', 'Rebase', { disk: { domain: 'vm1', disk: 'vd0' }, planEtag: 'x' }],
    ] as const)('exits with code %i << 3 for %s, and the details say %s', async (code, name, reason, rpc, request) => {
      const answer = await curl(`${JOBS}/${rpc}`, request);
      expect(answer).toMatchObject({ code: code << 3, error: { code: name } });
      const details = await Promise.all((answer.error?.details ?? []).map(decodeDetail));
      expect(details[0]).toMatchObject({ reason, domain: 'blockjob.v1.ErrorReason' });
      expect(answer.error?.details[0]?.type).toBe('google.rpc.ErrorInfo');
    });

    test('an error of buf itself has another status: 1', async () => {
      expect(await curl(`${JOBS}/GetInfo`, { nonsense: 1 })).toMatchObject({ code: 1, messages: [] });
      expect(await curl(`${JOBS}/NoSuchMethod`, {})).toMatchObject({ code: 1 });
    });
  });

  test('reflection v1 returns every file, including imports of google, and they fit together', async () => {
    await using cleanUp = new AsyncDisposableStack();
    const { path: dir } = cleanUp.use(await testDir('bj-curl-'));
    const service = cleanUp.use(await Service.start({ dir, qmp: { vm1: `${dir}/nobody.sock` }, allow: [] }));
    const reflect = reflection(service.address);
    cleanUp.defer(() => reflect.close());
    const files = new Map<string, readonly string[]>();
    for (const symbol of SERVICES) await take(await reflect.ask({ fileContainingSymbol: symbol }), files);
    // Every import of every file can be requested by its name.
    const named = new Set([...files.values()].flat());
    for (const name of named) {
      await take(await reflect.ask({ fileByFilename: name }), files);
      for (const imported of files.get(name) ?? []) named.add(imported);
    }
    expect([...files.keys()]).toEqual(
      expect.arrayContaining([
        'blockjob/v1/block_job_service.proto',
        'blockjob/v1/domain_service.proto',
        'blockjob/v1/job.proto',
        'google/rpc/status.proto',
        'google/protobuf/any.proto',
        'google/protobuf/duration.proto',
        'google/protobuf/timestamp.proto',
      ]),
    );
    for (const imports of files.values()) expect([...files.keys()]).toEqual(expect.arrayContaining([...imports]));
    // Error details are imported by no service, but clients need them to decode errors.
    for (const symbol of ['google.rpc.ErrorInfo', 'google.rpc.BadRequest', 'blockjob.v1.ErrorReason'])
      expect((await reflect.ask({ fileContainingSymbol: symbol })).files).not.toHaveLength(0);
    expect(await reflect.ask({ fileByFilename: 'no/such.proto' })).toMatchObject({ errorCode: 5, files: [] });
  });
});

async function take({ files }: Reflected, into: Map<string, readonly string[]>): Promise<void> {
  expect(files.length).toBeGreaterThan(0);
  for (const bytes of files) {
    const file = fromBinary(FileDescriptorProtoSchema, bytes);
    into.set(file.name, file.dependency);
  }
}

interface Reflected {
  readonly files: readonly Buffer[];
  readonly errorCode: number | undefined;
}

/** grpc.reflection.v1.ServerReflection, encoded and decoded by hand: only the few fields that are needed. */
function reflection(address: string) {
  const call = {
    path: '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
    requestStream: true,
    responseStream: true,
    ...AS_BYTES,
  };
  const Client = makeGenericClientConstructor({ info: call }, 'ServerReflection');
  const client = new Client(address, credentials.createInsecure());
  return {
    close: () => client.close(),
    ask: async (request: { fileByFilename: string } | { fileContainingSymbol: string }): Promise<Reflected> => {
      const [field, name] =
        'fileByFilename' in request ? [3, request.fileByFilename] : [4, request.fileContainingSymbol];
      const stream = client.makeBidiStreamRequest(call.path, call.requestSerialize, call.responseDeserialize);
      const answer = new Promise<Buffer>((resolve, reject) => {
        stream.on('data', resolve).on('error', (error: ServiceError) => reject(error));
      });
      stream.write(Buffer.concat([Buffer.from([(field << 3) | 2, name.length]), Buffer.from(name)]));
      stream.end();
      const fields = fieldsOf(await answer);
      const found = fields.filter(([number]) => number === 4).flatMap(([, value]) => fieldsOf(value));
      const error = fields.find(([number]) => number === 7)?.[1];
      return {
        files: found.filter(([number]) => number === 1).map(([, value]) => value),
        errorCode: error === undefined ? undefined : fieldsOf(error).find(([number]) => number === 1)?.[1][0],
      };
    },
  };
}

/** The fields of a message on the wire; varints are read as one byte, because none here is larger. */
function fieldsOf(message: Buffer): [number, Buffer][] {
  const fields: [number, Buffer][] = [];
  let at = 0;
  const varint = () => {
    let [value, shift] = [0, 0];
    for (;;) {
      const byte = message[at++] ?? 0;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
      shift += 7;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const length = (tag & 7) === 0 ? undefined : varint();
    const from = at;
    if (length === undefined) fields.push([tag >> 3, Buffer.from([varint()])]);
    else fields.push([tag >> 3, message.subarray(from, (at = from + length))]);
  }
  return fields;
}
