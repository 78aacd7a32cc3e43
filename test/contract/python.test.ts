/** The contract in another language: stubs by protoc, Debian's grpcio, a real QEMU. */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { needs, PYTHON } from '../support/means.ts';
import { compareImages, makeChain, run, startQemu, type TestDir, testDir } from '../support/real-qemu/qemu.ts';
import { REPOSITORY, Service } from '../support/service/service.ts';

const CLIENT = join(import.meta.dirname, 'python/client.py');
const GOOGLE = join(REPOSITORY, 'node_modules/google-proto-files');

type Line = Readonly<Record<string, unknown>> & { readonly kind: string };
type Detail = Readonly<Record<string, unknown>> & { readonly type: string };

async function generateStubs(into: string): Promise<void> {
  const { stdout: plugin } = await run('sh', ['-c', 'command -v grpc_python_plugin']);
  const ours = readdirSync(join(REPOSITORY, 'proto/blockjob/v1')).map((name) => `blockjob/v1/${name}`);
  const names = ['api/field_behavior', 'rpc/status', 'rpc/error_details', 'rpc/code'];
  const googles = names.map((name) => `google/${name}.proto`);
  const includes = [join(REPOSITORY, 'proto'), GOOGLE].flatMap((path) => ['-I', path]);
  const out = [`--plugin=protoc-gen-grpc_python=${plugin.trim()}`, `--python_out=${into}`, `--grpc_python_out=${into}`];
  await run('protoc', [...includes, ...out, ...ours, ...googles]);
}

async function world(transport: 'unix' | 'tcp') {
  await using cleanUp = new AsyncDisposableStack();
  const { path: dir } = cleanUp.use(await testDir('bj-python-'));
  await mkdir(join(dir, 'copies'));
  const chain = await makeChain(dir, { formats: ['qcow2', 'qcow2'], sizeBytes: 8 * 1024 * 1024 });
  const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
  const qemu = cleanUp.use(await startQemu({ style: 'blockdev', name: 'vm1', disks }));
  const listen = transport === 'tcp' ? { listen: '127.0.0.1:0' } : {};
  const service = cleanUp.use(await Service.start({ dir, qmp: { vm1: qemu.qmpPath }, allow: [dir], ...listen }));
  await service.domainUp('vm1');
  const owned = cleanUp.move();
  const top = chain.at(-1)?.path ?? '';
  return { dir, qemu, service, top, [Symbol.asyncDispose]: async () => await owned.disposeAsync() };
}

describe.skipIf(needs('qemu', 'python-grpc'))('a client in Python', () => {
  let stubs: TestDir;

  beforeAll(async () => {
    stubs = await testDir('bj-stubs-');
    await generateStubs(stubs.path);
  });
  afterAll(async () => await stubs[Symbol.asyncDispose]());

  async function python(target: string, args: readonly string[], input = ''): Promise<readonly Line[]> {
    const child = spawn(PYTHON, [CLIENT, stubs.path, target, ...args], { stdio: 'pipe', timeout: 60_000 });
    child.stdin.end(input);
    const ended = new Promise((resolve, reject) => child.on('close', resolve).on('error', reject));
    const [out, err, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    if (code !== 0) throw new Error(`client.py: status ${String(code)}: ${err}${out}`);
    return out
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Line);
  }

  describe.each(['unix', 'tcp'] as const)('over %s', (transport) => {
    test('copies, watches, pivots, and reads event.job.state', async () => {
      await using here = await world(transport);
      const destination = join(here.dir, 'copies/vm1.qcow2');
      const lines = await python(here.service.address, ['copy', 'vm1', 'vd0', destination]);
      expect(lines[0]).toMatchObject({
        kind: 'started',
        job: { state: 'STATE_RUNNING', disk: { domain: 'vm1', disk: 'vd0' }, destination: { file: destination } },
      });
      expect(lines).toContainEqual({ kind: 'aborted', state: 'STATE_COMPLETED' });
      expect(lines.at(-1)).toEqual({ kind: 'end of the watch' });

      const events = lines.filter(({ kind }) => kind === 'event');
      const entries = events.filter(({ type }) => !['KIND_PROGRESS', 'KIND_HEARTBEAT'].includes(String(type)));
      expect(entries.map(({ revision }) => revision)).toEqual(entries.map((_, index) => index + 1));
      const states = entries.map(({ state }) => state).filter((state, index, all) => state !== all[index - 1]);
      expect(states).toEqual(['STARTING', 'RUNNING', 'READY', 'PIVOTING', 'COMPLETED'].map((name) => `STATE_${name}`));
      expect(events.at(-1)).toMatchObject({
        event: { job: { outcome: { guestWritesTo: destination, destinationContent: 'DESTINATION_CONTENT_COMPLETE' } } },
      });
      expect((await here.qemu.admin.block('vd0')).inserted?.file).toBe(destination);
      const same = await compareImages(here.top, 'qcow2', destination, 'qcow2', { live: true });
      expect(same).toMatchObject({ identical: true });
    });

    test('reads why a call is refused: Status, ErrorInfo, BadRequest', async () => {
      await using here = await world(transport);
      const requests = [
        { disk: { domain: 'vm1' }, destination: { file: 'relative.qcow2' }, granularityBytes: 3 },
        { disk: { domain: 'nobody', disk: 'vd0' }, destination: { file: join(here.dir, 'a') } },
        { disk: { domain: 'vm1', disk: 'vd0' }, destination: { file: here.top } },
      ];
      const [wrong, unknown, existing] = await python(here.service.address, ['refused'], JSON.stringify(requests));
      const info = { type: 'ErrorInfo', domain: 'blockjob.v1.ErrorReason' };
      expect(wrong).toMatchObject({ kind: 'refused', code: 'INVALID_ARGUMENT' });
      expect(wrong?.['details']).toMatchObject([
        { ...info, reason: 'FIELD_INVALID' },
        {
          type: 'BadRequest',
          fieldViolations: [{ field: 'disk.disk' }, { field: 'destination.file' }, { field: 'granularity_bytes' }],
        },
      ]);
      expect(unknown).toMatchObject({ code: 'NOT_FOUND', text: expect.stringContaining('nobody') });
      expect(unknown?.['details']).toMatchObject([
        { ...info, reason: 'DOMAIN_NOT_FOUND', metadata: { domain: 'nobody' } },
      ]);
      expect(existing?.['details']).toMatchObject([
        { ...info, reason: 'DESTINATION_EXISTS', metadata: { path: here.top } },
      ]);
    });
  });

  // Clients built on grpc-core answer RESOURCE_EXHAUSTED, without details, when all trailers together pass 8 KB.
  describe('a refusal with long words still arrives whole', () => {
    let here: Awaited<ReturnType<typeof world>>;
    beforeAll(async () => {
      here = await world('unix');
    });
    afterAll(async () => await here[Symbol.asyncDispose]());

    const disk = { domain: 'vm1', disk: 'vd0' };
    const cases = [
      ['a relative path of 4,000 characters', 'PATH_NOT_ABSOLUTE', { disk, destination: { file: 'x'.repeat(4000) } }],
      [
        'a path of 4,000 characters',
        'DESTINATION_NOT_ALLOWED',
        { disk, destination: { file: `/${'x/'.repeat(2000)}y` } },
      ],
      [
        'a domain of 1,000 characters',
        'DOMAIN_NOT_FOUND',
        { disk: { domain: 'x'.repeat(1000), disk: 'x' }, destination: { file: '/x' } },
      ],
      [
        'a domain of 340 characters of three bytes',
        'DOMAIN_NOT_FOUND',
        { disk: { domain: '→'.repeat(340), disk: 'x' }, destination: { file: '/x' } },
      ],
      [
        'a disk of 1,300 characters of three bytes',
        'DISK_NOT_FOUND',
        { disk: { domain: 'vm1', disk: '→'.repeat(1300) }, destination: { file: '/x' } },
      ],
      [
        'a relative path of 1,000 characters of four bytes',
        'PATH_NOT_ABSOLUTE',
        { disk, destination: { file: '🖴'.repeat(1000) } },
      ],
      [
        'a disk that is longer than it may be',
        'FIELD_INVALID',
        { disk: { domain: 'vm1', disk: '→'.repeat(4000) }, destination: { file: '/x' } },
      ],
      [
        'everything wrong at once',
        'FIELD_INVALID',
        {
          destination: { file: 'x'.repeat(4000), format: 99 },
          writeMode: 99,
          onReady: 99,
          onNoSpace: 99,
          pauseGuest: 99,
          granularityBytes: 3,
          bufferBytes: '99999999999',
          bandwidthBytesPerSecond: '-1',
          shallow: true,
          reuseExternal: true,
          requestId: 'x'.repeat(4000),
          planEtag: 'x'.repeat(4000),
        },
      ],
    ] as const;

    test.each(cases)('%s', async (_name, reason, request) => {
      const [line] = await python(here.service.address, ['refused'], JSON.stringify([request]));
      expect(line).toMatchObject({
        kind: 'refused',
        details: expect.arrayContaining([expect.objectContaining({ reason })]),
      });
      const [info] = (line?.['details'] ?? []) as Detail[];
      expect(info).toMatchObject({ type: 'ErrorInfo', domain: 'blockjob.v1.ErrorReason', reason });
      expect(line?.['details_bytes']).toBeLessThan(4096);
      // grpcio-status drops the status if these differ.
      expect(line?.['message']).toBe(line?.['text']);
    });
  });
});
