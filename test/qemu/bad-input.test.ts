// The expected result differs between the rows of the tables.
/* oxlint-disable vitest/no-conditional-expect, vitest/expect-expect, unicorn/consistent-function-scoping */
/** A wrong request is refused with the reason of the catalogue; nothing is changed, and nothing is left behind. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import {
  BlockJobServiceService,
  GetInfoRequest,
  ReclaimRequest,
  WatchJobRequest,
} from '../../generated/blockjob/v1/block_job_service.ts';
import { DomainServiceService } from '../../generated/blockjob/v1/domain_service.ts';
import type { PauseGuest } from '../../generated/blockjob/v1/job.ts';
import {
  DestinationContent,
  ImageFormat,
  Job_State,
  JobEvent_Kind,
  OnNoSpace,
  PauseReason,
} from '../../generated/blockjob/v1/job.ts';
import { ErrorInfo } from '../../generated/google/rpc/error_details.ts';
import {
  ChainTemplate,
  eventually,
  expectClean,
  expectWell,
  graphOf,
  journalEntries,
  listing,
  monitorIn,
  present,
} from '../support/checks.ts';
import { canMount, fill, smallFileSystem } from '../support/images/small-file-system.ts';
import { needs } from '../support/means.ts';
import { type Qemu, run, startQemu, type TestDir, testDir } from '../support/real-qemu/qemu.ts';
import { stop } from '../support/real-qemu/while-stopped.ts';
import { byId, errorOf, type Refusal, refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1 << 20;
const SLOW = 64n * 1024n;
const RAW = ImageFormat.IMAGE_FORMAT_RAW;
const QCOW2 = ImageFormat.IMAGE_FORMAT_QCOW2;
const ROOT = process.getuid?.() === 0;

type StartRequest = Parameters<typeof StartCopyRequest.fromPartial>[0];

const held = new AsyncDisposableStack();
let state: TestDir;
let sockets: string;
/** A folder in which copies are allowed, with a source in it. */
let work: string;
let forbidden: string;
let service: Service;
let qemu: Qemu;
let source: string;

const file = (path: string) => ({ $case: 'file', value: path }) as const;
const here = (name: string): string => join(work, name);

function copy(path: string, more: StartRequest = {}, format: ImageFormat = QCOW2): StartRequest {
  return { disk: { domain: 'vm', disk: 'disk0' }, destination: { target: file(path), format }, ...more };
}

/** The code's name, reason and metadata of a refusal, which must be this service's. */
function seen(refusal: Refusal) {
  expect(refusal.domain).toBe('blockjob.v1.ErrorReason');
  expect(refusal.message).not.toBe('');
  const { code, reason, metadata } = refusal;
  return { code: status[code], reason, metadata };
}

/** Everything that a refused call could have changed. */
async function everything(folder: string, machine: Qemu, own: boolean) {
  const files = await listing(folder);
  const journals = await listing(join(state.path, 'state', 'jobs'));
  const { jobs } = await service.listJobs();
  const isOwn = (line: string): boolean => line.startsWith(' ');
  return {
    // The line of the folder itself shows what came and went.
    files: own ? files : files.filter((line) => !isOwn(line)),
    journals: journals.filter((line) => !isOwn(line)),
    graph: await graphOf(machine.admin),
    run: await machine.admin.execute('query-status'),
    jobs: jobs.map(({ id, state: at, revision }) => ({ id, at, revision })),
  };
}

/** Runs a call that must be refused, and proves that it changed nothing. `own`: not even for a moment. */
async function unchanged(
  ask: () => Promise<unknown>,
  { folder = work, machine = qemu, own = true }: { folder?: string; machine?: Qemu; own?: boolean } = {},
): Promise<Refusal> {
  const before = await everything(folder, machine, own);
  const refusal = await refused(ask());
  expect(await everything(folder, machine, own)).toEqual(before);
  expectWell(service);
  return refusal;
}

/** A file system of its own, of some MiB. */
const MOUNTS = canMount();

/** Sends bytes as they are. */
async function sendBytes(path: string, bytes: Buffer, stream: boolean): Promise<unknown> {
  const client = new Client(service.address, credentials.createInsecure());
  const plain = (value: Buffer): Buffer => value;
  try {
    return await new Promise((resolve, reject) => {
      if (stream) {
        const call = client.makeServerStreamRequest(path, plain, plain, bytes, new Metadata());
        call.on('data', resolve).on('error', reject);
      } else {
        client.makeUnaryRequest(path, plain, plain, bytes, new Metadata(), (error, answer) => {
          if (error === null) resolve(answer);
          else reject(error);
        });
      }
    });
  } finally {
    client.close();
  }
}

const send = (path: string, bytes: Uint8Array, stream = false): Promise<unknown> =>
  sendBytes(path, Buffer.from(bytes), stream);

function asked(domain: string): readonly (() => Promise<unknown>)[] {
  const job = { name: { $case: 'disk', value: { domain, disk: 'disk0' } } } as const;
  const { getInfo, watchJob } = BlockJobServiceService;
  return [
    () => service.getDomain(domain),
    () => service.startCopy(copy(here('new'), { disk: { domain, disk: 'disk0' } })),
    () => service.abort({ job }),
    () => send(getInfo.path, GetInfoRequest.encode(GetInfoRequest.fromPartial({ job })).finish()),
    () => send(watchJob.path, WatchJobRequest.encode(WatchJobRequest.fromPartial({ job })).finish(), true),
  ];
}

const whyOf = async (domain: string): Promise<string> => (await refused(service.getDomain(domain))).message;

const METHODS = [...Object.entries(BlockJobServiceService), ...Object.entries(DomainServiceService)].map(
  ([name, { path, responseStream }]) => ({ name, path, responseStream }),
);

describe.skipIf(needs('qemu'))('bad input', () => {
  beforeAll(async () => {
    state = held.use(await testDir());
    sockets = held.use(await testDir('bj-qmp-')).path;
    work = held.use(await testDir('bj-work-')).path;
    forbidden = held.use(await testDir('bj-no-')).path;
    const images = held.use(await testDir('bj-images-')).path;
    const template = await ChainTemplate.make(images, 'template', ['qcow2', 'qcow2'], 4 * MIB);
    await mkdir(join(images, 'vm'));
    const chain = await template.copyTo(join(images, 'vm'));
    source = present(chain.at(-1)).path;
    await writeFile(join(images, 'full.raw'), Buffer.alloc(32 * MIB, 'guest data'));
    await writeFile(join(images, 'cd.iso'), Buffer.alloc(MIB, 'cd'));
    await writeFile(here('none.raw'), '');
    service = held.use(await Service.start({ dir: state.path, qmpDir: sockets, allow: [work] }));
    const cd = (id: string, bus: number): string[] => [
      '-blockdev',
      `driver=raw,node-name=${id},read-only=on,file.driver=file,file.read-only=on,file.filename=${images}/cd.iso`,
      '-device',
      `ide-cd,id=${id}-device,bus=ide.${bus},drive=${id}`,
    ];
    qemu = held.use(
      await startQemu({
        style: 'blockdev',
        name: 'vm',
        disks: [
          { id: 'disk0', bus: 'virtio-blk', chain },
          { id: 'full0', bus: 'virtio-scsi', chain: [{ format: 'raw', path: join(images, 'full.raw') }] },
          { id: 'none0', bus: 'virtio-blk', chain: [{ format: 'raw', path: here('none.raw') }] },
          { id: 'cd0', empty: true },
        ],
        extraArgs: [...monitorIn(sockets, 'vm'), ...cd('cda', 2), ...cd('cdb', 3)],
      }),
    );
    await service.domainUp('vm');
  });
  afterAll(async () => {
    await held.disposeAsync();
  });

  describe('StartCopy', () => {
    const long = 'x'.repeat(4000);
    const hostile = ['a "b" \'c\'', 'line\nbreak\r\n', '😀'.repeat(30), '%s {path} ${x} \\', '"}{"execute":"quit"}'];

    interface Row {
      readonly what: string;
      readonly ask: () => StartRequest;
      readonly code: keyof typeof status;
      readonly reason: string;
      /** The whole metadata, if it is known beforehand. */
      readonly metadata: () => Readonly<Record<string, unknown>>;
      readonly message?: RegExp;
    }
    const NO_SUCH = { code: 'NOT_FOUND', reason: 'DISK_NOT_FOUND' } as const;
    const EXISTS = { code: 'ALREADY_EXISTS', reason: 'DESTINATION_EXISTS' } as const;
    const INVALID = { code: 'INVALID_ARGUMENT', reason: 'FIELD_INVALID' } as const;
    const MISSING = { code: 'NOT_FOUND', reason: 'DESTINATION_MISSING' } as const;
    const DENIED = { code: 'PERMISSION_DENIED', reason: 'ACCESS_DENIED' } as const;
    const NOT_ALLOWED = { code: 'PERMISSION_DENIED', reason: 'DESTINATION_NOT_ALLOWED' } as const;
    const field = (name: string) => () => ({ field: name });
    const at = (name: string) => () => ({ path: here(name) });
    const on = (disk: string, domain = 'vm'): StartRequest => copy(here('new'), { disk: { domain, disk } });

    const ROWS: readonly Row[] = [
      ...['nobody', 'VM', 'vm ', long.slice(0, 1024), ...hostile].map(
        (domain): Row => ({
          what: `no domain ${JSON.stringify(domain).slice(0, 40)}`,
          ask: () => on('disk0', domain),
          code: 'NOT_FOUND',
          reason: 'DOMAIN_NOT_FOUND',
          metadata: () => ({ domain: domain.length > 1000 ? `${'x'.repeat(1000)}…` : domain }),
        }),
      ),
      ...['nothing', 'DISK0', 'disk0-1-file', '/machine', long, ...hostile].map(
        (disk): Row => ({
          what: `no disk ${JSON.stringify(disk).slice(0, 40)}`,
          ask: () => on(disk),
          ...NO_SUCH,
          metadata: () => ({ domain: 'vm', disk: disk === long ? `${'x'.repeat(1000)}…` : disk }),
        }),
      ),
      {
        what: 'a path that two disks are on',
        ask: () => on(join(source, '../../cd.iso')),
        ...NO_SUCH,
        metadata: () => ({ domain: 'vm', disk: join(source, '../../cd.iso') }),
      },
      {
        what: 'a disk without medium',
        ask: () => on('cd0'),
        code: 'FAILED_PRECONDITION',
        reason: 'DISK_EMPTY',
        metadata: () => ({ domain: 'vm', disk: 'cd0' }),
      },
      { what: 'no domain given', ask: () => on('disk0', ''), ...INVALID, metadata: field('disk.domain') },
      { what: 'no disk given', ask: () => on(''), ...INVALID, metadata: field('disk.disk') },
      {
        what: 'no DiskRef',
        ask: () => ({ destination: { target: file(here('new')) } }),
        ...INVALID,
        metadata: field('disk.domain'),
      },
      {
        what: 'no destination',
        ask: () => ({ disk: { domain: 'vm', disk: 'disk0' } }),
        ...INVALID,
        metadata: field('destination'),
      },
      ...['copy.qcow2', './copy', '../copy', ''].map(
        (path): Row => ({
          what: `relative path "${path}"`,
          ask: () => copy(path),
          code: 'INVALID_ARGUMENT',
          reason: 'PATH_NOT_ABSOLUTE',
          metadata: () => ({ field: 'destination.file', path }),
        }),
      ),
      ...['../up', 'sub/../new', './new', 'new/', 'a\0b', 'x'.repeat(4096)].map(
        (name): Row => ({
          what: `path …/${JSON.stringify(name).slice(0, 20)}`,
          ask: () => copy(`${work}/${name}`),
          ...INVALID,
          metadata: field('destination.file'),
        }),
      ),
      { what: 'a file with contents', ask: () => copy(here('file')), ...EXISTS, metadata: at('file') },
      {
        what: 'a file with contents, raw',
        ask: () => copy(here('file'), {}, RAW),
        ...EXISTS,
        metadata: at('file'),
      },
      { what: 'a symlink to a file', ask: () => copy(here('link')), ...EXISTS, metadata: at('link') },
      {
        what: 'a symlink to an empty file',
        ask: () => copy(here('link0')),
        ...EXISTS,
        metadata: at('link0'),
      },
      { what: 'a dangling symlink', ask: () => copy(here('dangling')), ...EXISTS, metadata: at('dangling') },
      { what: 'a device node', ask: () => copy(here('null')), ...EXISTS, metadata: at('null') },
      { what: 'a FIFO', ask: () => copy(here('fifo'), {}, RAW), ...EXISTS, metadata: at('fifo') },
      {
        what: 'an empty file that a disk is on',
        ask: () => copy(here('none.raw'), {}, RAW),
        code: 'FAILED_PRECONDITION',
        reason: 'DESTINATION_IN_USE',
        metadata: () => ({ path: here('none.raw') }),
        message: /: node none0-0\S* of domain vm$/,
      },
      {
        what: 'a folder that is not there',
        ask: () => copy(here('no/new')),
        ...MISSING,
        metadata: at('no'),
      },
      {
        what: 'a folder that is a file',
        ask: () => copy(here('file/new')),
        ...INVALID,
        metadata: field('destination.file'),
        message: /uses a file as a folder$/,
      },
      {
        what: 'a name that no file system takes',
        ask: () => copy(here('y'.repeat(300))),
        ...INVALID,
        metadata: field('destination.file'),
        message: /is too long for its file system$/,
      },
      {
        what: 'a folder that is not allowed',
        ask: () => copy(join(forbidden, 'new')),
        ...NOT_ALLOWED,
        metadata: () => ({ path: join(forbidden, 'new') }),
      },
      {
        what: 'a folder whose name only begins like one that is allowed',
        ask: () => copy(`${work}-not/new`),
        ...NOT_ALLOWED,
        metadata: () => ({ path: `${work}-not/new` }),
      },
      {
        what: 'a link in an allowed folder that leads out of it',
        ask: () => copy(here('out/new')),
        ...NOT_ALLOWED,
        metadata: at('out/new'),
      },
      { what: 'the root', ask: () => copy('/new'), ...NOT_ALLOWED, metadata: () => ({ path: '/new' }) },
      ...[3, 99, -1, 2 ** 31 - 1].map(
        (format): Row => ({
          what: `format ${format}`,
          ask: () => copy(here('new'), {}, format as ImageFormat),
          ...INVALID,
          metadata: field('destination.format'),
        }),
      ),
      ...(['writeMode', 'onReady', 'onNoSpace', 'pauseGuest'] as const).map(
        (name): Row => ({
          what: `${name} 77`,
          ask: () => copy(here('new'), { [name]: 77 }),
          ...INVALID,
          metadata: field(name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)),
        }),
      ),
      {
        what: 'a speed below nothing',
        ask: () => copy(here('new'), { bandwidthBytesPerSecond: -1n }),
        code: 'INVALID_ARGUMENT',
        reason: 'BANDWIDTH_OUT_OF_RANGE',
        metadata: () => ({
          field: 'bandwidth_bytes_per_second',
          value: '-1',
          maximum: '9223372036854775807',
        }),
      },
      ...[1n, 256n, 1000n, 2n ** 27n, 2n ** 63n - 1n, -512n].map(
        (value): Row => ({
          what: `granularity ${value}`,
          ask: () => copy(here('new'), { granularityBytes: value }),
          code: 'INVALID_ARGUMENT',
          reason: 'GRANULARITY_INVALID',
          metadata: () => ({ field: 'granularity_bytes', value: String(value) }),
        }),
      ),
      {
        what: 'a buffer that is too large',
        ask: () => copy(here('new'), { bufferBytes: 2n ** 28n + 1n }),
        code: 'INVALID_ARGUMENT',
        reason: 'BUFFER_INVALID',
        metadata: () => ({ field: 'buffer_bytes', value: '268435457', maximum: '268435456' }),
      },
      {
        what: 'a request id with a space',
        ask: () => copy(here('new'), { requestId: 'one two' }),
        ...INVALID,
        metadata: field('request_id'),
      },
      {
        what: 'a plan that was never made',
        ask: () => copy(here('new'), { planEtag: 'etag' }),
        code: 'ABORTED',
        reason: 'PLAN_CHANGED',
        metadata: () => ({}),
      },
    ];

    beforeAll(async () => {
      await writeFile(here('file'), 'precious');
      await writeFile(here('empty'), '');
      await symlink('file', here('link'));
      await symlink('empty', here('link0'));
      await symlink('nothing', here('dangling'));
      await symlink(forbidden, here('out'));
      await run('mkfifo', [here('fifo')]);
      if (ROOT) await run('mknod', [here('null'), 'c', '1', '3']);
      else await symlink('/dev/null', here('null'));
    });

    test.each(ROWS)('$what: $reason', async ({ ask, code, reason, metadata, message = /./ }) => {
      const refusal = await unchanged(() => service.startCopy(ask()));
      expect(refusal.message).toMatch(message);
      expect(seen(refusal)).toEqual({ code, reason, metadata: metadata() });
      if (code === 'INVALID_ARGUMENT' || code === 'UNIMPLEMENTED')
        expect(refusal.fields).toContain(refusal.metadata['field']);
    });

    test('existing files are unchanged', async () => {
      expect(await readFile(here('file'), 'utf8')).toBe('precious');
      expect(await listing(forbidden)).toHaveLength(1);
      expect(existsSync('/dev/null')).toBe(true);
    });

    test('a directory: FIELD_INVALID', async () => {
      await mkdir(here('folder'), { recursive: true });
      const refusal = await unchanged(() => service.startCopy(copy(here('folder'))));
      expect(seen(refusal)).toMatchObject(INVALID);
    });

    test('a name of two domains: FIELD_INVALID, and their UUIDs work', async () => {
      await using one = await startQemu({
        style: 'drive',
        name: 'twin',
        disks: [],
        extraArgs: monitorIn(sockets, 'twin1'),
      });
      await service.domainUp(one.uuid);
      await using two = await startQemu({
        style: 'drive',
        name: 'twin',
        disks: [],
        extraArgs: monitorIn(sockets, 'twin2'),
      });
      await service.domainUp(two.uuid);
      expect((await service.getDomain(one.uuid)).qemuPid).toBe(one.pid);
      expect((await service.getDomain(two.uuid)).qemuPid).toBe(two.pid);
      const refusal = await unchanged(() => service.startCopy(on('disk0', 'twin')));
      expect(seen(refusal)).toMatchObject(INVALID);
    });

    test('all errors are reported at once', async () => {
      const request: StartRequest = {
        destination: { target: file('here'), format: 42 as ImageFormat },
        granularityBytes: 3n,
        bufferBytes: 2n ** 60n,
      };
      const refusal = await unchanged(() => service.startCopy(request));
      expect(refusal.fields).toEqual([
        'disk.domain',
        'disk.disk',
        'destination.file',
        'destination.format',
        'granularity_bytes',
        'buffer_bytes',
      ]);
      expect(seen(refusal)).toMatchObject(INVALID);
    });

    test.skipIf(!MOUNTS && ROOT)('a read-only folder: ACCESS_DENIED', async () => {
      await using disposer = new AsyncDisposableStack();
      let folder = here('read-only');
      if (MOUNTS) {
        folder = disposer.use(await smallFileSystem(work, 1, ',ro')).path;
      } else {
        await mkdir(folder);
        await chmod(folder, 0o555);
      }
      for (const format of [QCOW2, RAW]) {
        const refusal = await unchanged(() => service.startCopy(copy(join(folder, 'new'), {}, format)));
        expect(seen(refusal)).toEqual({ ...DENIED, metadata: { path: folder } });
        expect(refusal.message).toMatch(MOUNTS ? /: EROFS .*read-only$/ : /: EACCES /);
      }
    });

    test.skipIf(!MOUNTS).each(['qcow2', 'raw'] as const)('a full file system, %s: NO_SPACE', async (name) => {
      await using full = await smallFileSystem(work, 4);
      await fill(full.path);
      const path = join(full.path, 'new');
      const request = copy(path, {}, name === 'raw' ? RAW : QCOW2);
      const refusal = await unchanged(() => service.startCopy(request));
      expect(seen(refusal)).toEqual({
        code: 'RESOURCE_EXHAUSTED',
        reason: 'NO_SPACE',
        metadata: { path },
      });
    });

    test('QEMU refuses a step in the middle: the steps before it are undone', async () => {
      await mkdir(here('limited'), { recursive: true });
      // QEMU cannot open more files: the first node cannot be added, though the file was made.
      const limits = await readFile(`/proc/${qemu.pid}/limits`, 'utf8');
      const soft = present(/^Max open files\s+(\d+)/m.exec(limits)?.[1]);
      await run('prlimit', ['--pid', String(qemu.pid), '--nofile=8:']);
      try {
        for (const format of [QCOW2, RAW]) {
          const request = copy(here('limited/new'), {}, format);
          const refusal = await unchanged(() => service.startCopy(request), {
            folder: here('limited'),
            own: false,
          });
          expect(seen(refusal)).toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'LIMIT_REACHED' });
          expect(refusal.metadata).toMatchObject({
            qemuClass: 'GenericError',
            qemuText: expect.stringContaining('Too many open files') as string,
          });
        }
      } finally {
        await run('prlimit', ['--pid', String(qemu.pid), `--nofile=${soft}:`]);
      }
    });

    test.each(['a "b" \'c\'', 'line\nbreak', '😀é', ',file=x,', '%s ${x} \\', 'json:{"driver":"raw"}', '-rf', '…'])(
      'a strange but valid name: %j',
      async (name) => {
        const folder = here(`strange ${name}`);
        await mkdir(folder);
        const path = join(folder, name);
        const { id } = await service.startCopy(copy(path, { bandwidthBytesPerSecond: SLOW }));
        expect((await service.getInfo(id)).destination?.target).toEqual(file(path));
        expect(existsSync(path)).toBe(true);
        const job = await service.abort({ job: byId(id) });
        expect(job).toMatchObject({ state: Job_State.STATE_CANCELLED, outcome: { destinationRemoved: true } });
        expect(existsSync(path)).toBe(false);
        expectClean(await graphOf(qemu.admin), id);
        expectWell(service);
      },
    );
  });

  describe.skipIf(!MOUNTS)('a file system that becomes full in the middle', () => {
    /**
     * Slowly at first, except for the 16 MiB that QEMU copies at once: a copy that fails in its first moments is
     * refused.
     */
    const start = async (path: string, onNoSpace: OnNoSpace, name: 'qcow2' | 'raw') => {
      const job = await service.startCopy({
        disk: { domain: 'vm', disk: 'full0' },
        destination: { target: file(path), format: name === 'raw' ? RAW : QCOW2 },
        onNoSpace,
        overcommit: true,
        bandwidthBytesPerSecond: SLOW,
      });
      await service.setSpeed(job.id, 0n);
      return job;
    };

    test.each(['qcow2', 'raw'] as const)('PAUSE, %s: continues when there is space, or is aborted', async (name) => {
      await using small = await smallFileSystem(work, 8);
      for (const ending of ['abort', 'resume'] as const) {
        const path = join(small.path, ending);
        const { id } = await start(path, OnNoSpace.ON_NO_SPACE_UNSPECIFIED, name);
        const types: JobEvent_Kind[] = [];
        for await (const { kind, job, revision } of service.watch(id, 0)) {
          types.push(kind);
          if (kind !== JobEvent_Kind.KIND_PAUSED) continue;
          expect(job?.pauseReason).toBe(PauseReason.PAUSE_REASON_NO_SPACE);
          expect(job?.state).toBe(Job_State.STATE_RUNNING);
          expect(job?.revision).toBe(revision);
          break;
        }
        expect((await service.getInfo(id)).pauseReason).toBe(PauseReason.PAUSE_REASON_NO_SPACE);
        expect(await qemu.admin.execute('query-status')).toMatchObject({ status: 'running' });
        await qemu.admin.hmpQemuIo('full0', 'write -P 5 1M 64k');
        if (ending === 'abort') {
          const job = await service.abort({ job: byId(id) });
          expect(job).toMatchObject({
            state: Job_State.STATE_CANCELLED,
            pauseReason: PauseReason.PAUSE_REASON_UNSPECIFIED,
            outcome: {
              destinationRemoved: true,
              destinationContent: DestinationContent.DESTINATION_CONTENT_PARTIAL,
            },
          });
          expect(existsSync(path)).toBe(false);
        } else {
          await run('mount', ['-o', 'remount,size=64m', small.path]);
          const ready = await service.until(id, 'STATE_READY');
          expect(ready.job?.pauseReason).toBe(PauseReason.PAUSE_REASON_UNSPECIFIED);
          const job = await service.abort({ job: byId(id) });
          expect(job).toMatchObject({
            state: Job_State.STATE_CANCELLED,
            outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE },
          });
          const entries = await journalEntries(join(state.path, 'state'), id, job.revision);
          const pauses = entries.map(({ entry }) => entry).filter((entry) => /paused|resumed/.test(entry));
          expect(pauses).toEqual(['paused', 'resumed']);
        }
        expectClean(await graphOf(qemu.admin), id);
        expectWell(service);
      }
    });

    test.each(['qcow2', 'raw'] as const)('FAIL, %s: FAILED with NO_SPACE, the guest unharmed', async (name) => {
      await using small = await smallFileSystem(work, 24);
      const path = join(small.path, 'new');
      const before = await graphOf(qemu.admin);
      const { id } = await start(path, OnNoSpace.ON_NO_SPACE_FAIL, name);
      const { job } = await service.until(id, 'STATE_FAILED');
      expect(errorOf(present(job))).toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
        reason: 'NO_SPACE',
        metadata: { path, qemuText: expect.stringContaining('No space left') as string },
      });
      expect(job).toMatchObject({
        outcome: {
          destinationRemoved: true,
          destinationContent: DestinationContent.DESTINATION_CONTENT_PARTIAL,
          safeToDelete: [],
        },
      });
      expect(await listing(small.path)).toHaveLength(1);
      expect(await graphOf(qemu.admin)).toEqual(before);
      expect(await qemu.admin.execute('query-status')).toMatchObject({ status: 'running' });
      await qemu.admin.hmpQemuIo('full0', 'write -P 6 2M 64k');
      await qemu.admin.hmpQemuIo('full0', 'read -P 6 2M 64k');
      expectWell(service);
    });
  });

  describe('jobs', () => {
    test('a second job on the disk, a pivot before READY, a job that has ended', async () => {
      const { id } = await service.startCopy(copy(here('first'), { bandwidthBytesPerSecond: SLOW }));
      // A running copy continues, so its own file may change meanwhile.
      const still = async (ask: () => Promise<unknown>): Promise<Refusal> => {
        const before = await graphOf(qemu.admin);
        const refusal = await refused(ask());
        expect(await graphOf(qemu.admin)).toEqual(before);
        expect((await service.getInfo(id)).state).toBe(Job_State.STATE_RUNNING);
        expectWell(service);
        return refusal;
      };
      for (const disk of ['disk0', source, 'disk0-1']) {
        const request = copy(here('second'), { disk: { domain: qemu.uuid.toUpperCase(), disk } });
        expect(seen(await still(() => service.startCopy(request)))).toEqual({
          code: 'FAILED_PRECONDITION',
          reason: 'BLOCK_COPY_ACTIVE',
          metadata: { job: id, domain: 'vm', disk: 'disk0' },
        });
        expect(existsSync(here('second'))).toBe(false);
      }
      const early = await still(() => service.abort({ job: byId(id), pivot: true }));
      expect(seen(early)).toEqual({
        code: 'FAILED_PRECONDITION',
        reason: 'JOB_NOT_READY',
        metadata: { job: id, state: 'RUNNING' },
      });
      const both = await still(() => service.abort({ job: byId(id), pivot: true, force: true }));
      expect(seen(both)).toEqual({
        code: 'INVALID_ARGUMENT',
        reason: 'FLAGS_EXCLUSIVE',
        metadata: { field: 'force', first: 'pivot', second: 'force' },
      });
      const named = await still(() => service.abort({ job: byId(id), requestId: 'one two' }));
      expect(seen(named)).toMatchObject({ reason: 'FIELD_INVALID', metadata: { field: 'request_id' } });
      const odd = await still(() => service.abort({ job: byId(id), pauseGuest: 9 as PauseGuest }));
      expect(seen(odd)).toMatchObject({ reason: 'FIELD_INVALID', metadata: { field: 'pause_guest' } });

      await qemu.admin.execute('block-job-set-speed', { device: id, speed: 0 });
      await service.until(id, 'STATE_READY');
      const done = await service.abort({ job: byId(id) });
      expect(done.state).toBe(Job_State.STATE_CANCELLED);
      for (const pivot of [false, true]) {
        for (const job of [byId(id), { name: { $case: 'disk', value: { domain: 'vm', disk: 'disk0' } } } as const]) {
          const late = await unchanged(() => service.abort({ job, pivot }));
          expect(seen(late)).toEqual({
            code: 'FAILED_PRECONDITION',
            reason: 'JOB_ENDED',
            metadata: { job: id, state: 'CANCELLED' },
          });
        }
      }
      await rm(here('first'));
    });

    async function foreignJob(command: 'block-stream' | 'blockdev-mirror', reason: string): Promise<void> {
      const mirror = { target: 'sink', sync: 'full' };
      await qemu.admin.execute('blockdev-add', {
        driver: 'null-co',
        'node-name': 'sink',
        size: 4 * MIB,
        'read-zeroes': true,
      });
      await qemu.admin.execute(command, {
        'job-id': 'foreign',
        device: 'disk0-1',
        speed: 65536,
        ...(command === 'blockdev-mirror' ? mirror : {}),
      });
      try {
        const refusal = await unchanged(() => service.startCopy(copy(here('new'))));
        expect(seen(refusal)).toEqual({
          code: 'FAILED_PRECONDITION',
          reason,
          metadata: { job: 'foreign', domain: 'vm', disk: 'disk0' },
        });
      } finally {
        await qemu.admin.execute('block-job-cancel', { device: 'foreign', force: true });
        await eventually('the foreign job ends', async () =>
          (await graphOf(qemu.admin)).jobs.length === 0 ? true : undefined,
        );
        await qemu.admin.execute('blockdev-del', { 'node-name': 'sink' });
      }
    }

    test("another client's pull runs on the disk: BLOCK_JOB_ACTIVE", async () => {
      await foreignJob('block-stream', 'BLOCK_JOB_ACTIVE');
    });

    test("another client's mirror runs on the disk: BLOCK_COPY_ACTIVE", async () => {
      await foreignJob('blockdev-mirror', 'BLOCK_COPY_ACTIVE');
    });

    const REFS: readonly [string, Parameters<typeof GetInfoRequest.fromPartial>[0]['job'], string, string][] = [
      ['unknown id', byId('bj0123456789abcdef'), 'NOT_FOUND', 'JOB_NOT_FOUND'],
      ['hostile id', byId('../../etc/passwd'), 'NOT_FOUND', 'JOB_NOT_FOUND'],
      ['long id', byId('x'.repeat(4000)), 'INVALID_ARGUMENT', 'FIELD_INVALID'],
      ['id with a line break', byId('a\nb"😀'), 'NOT_FOUND', 'JOB_NOT_FOUND'],
      ['empty id', byId(''), 'INVALID_ARGUMENT', 'FIELD_INVALID'],
      ['no name', {}, 'INVALID_ARGUMENT', 'FIELD_INVALID'],
      ['no job', undefined, 'INVALID_ARGUMENT', 'FIELD_INVALID'],
      ['empty disk', { name: { $case: 'disk', value: {} } }, 'INVALID_ARGUMENT', 'FIELD_INVALID'],
      [
        'disk without a job',
        { name: { $case: 'disk', value: { domain: 'vm', disk: 'none0' } } },
        'NOT_FOUND',
        'DISK_HAS_NO_JOB',
      ],
      ['unknown disk', { name: { $case: 'disk', value: { domain: 'vm', disk: 'x' } } }, 'NOT_FOUND', 'DISK_NOT_FOUND'],
      [
        'unknown domain',
        { name: { $case: 'disk', value: { domain: 'x', disk: 'disk0' } } },
        'NOT_FOUND',
        'DOMAIN_NOT_FOUND',
      ],
    ];
    test.each(REFS)('%s', async (_what, job, code, reason) => {
      const part = job === undefined ? {} : { job };
      const ways: (() => Promise<unknown>)[] = [
        () => service.abort(part),
        () => service.abort({ ...part, pivot: true, returnImmediately: true }),
        () =>
          send(BlockJobServiceService.getInfo.path, GetInfoRequest.encode(GetInfoRequest.fromPartial(part)).finish()),
        () =>
          send(
            BlockJobServiceService.watchJob.path,
            WatchJobRequest.encode(WatchJobRequest.fromPartial(part)).finish(),
            true,
          ),
      ];
      for (const way of ways) expect(seen(await unchanged(way))).toMatchObject({ code, reason });
    });

    test('lists: values out of range', async () => {
      const field = async (ask: Promise<unknown>) => seen(await refused(ask)).metadata['field'];
      expect(await field(service.listJobs({ pageSize: -1 }))).toBe('page_size');
      expect(await field(service.listJobs({ pageToken: 'x' }))).toBe('page_token');
      expect(await field(service.listJobs({ stateFilter: [77 as Job_State] }))).toBe('state_filter');
    });

    test('the jobs of an unknown domain: DOMAIN_NOT_FOUND', async () => {
      const refusal = await refused(service.listJobs({ domain: 'nobody' }));
      expect(seen(refusal)).toMatchObject({ code: 'NOT_FOUND', reason: 'DOMAIN_NOT_FOUND' });
    });
  });

  describe('messages', () => {
    test.each(METHODS)('$name: bytes that are not a message', async ({ path, responseStream }) => {
      for (const bytes of [Buffer.alloc(64, 0xff), Buffer.from('0a0502', 'hex'), Buffer.from('{"disk": 1}')]) {
        const refusal = await unchanged(() => send(path, bytes, responseStream));
        expect(seen(refusal)).toEqual({
          code: 'INVALID_ARGUMENT',
          reason: 'FIELD_INVALID',
          metadata: { field: 'message' },
        });
      }
    });

    test.each(METHODS)('$name: a message of more than 1 MiB', async ({ path, responseStream }) => {
      // Field 15, which no message has, of two MiB: only its size is wrong.
      const bytes = Buffer.concat([Buffer.from('7a80808001', 'hex'), Buffer.alloc(2 * MIB)]);
      const refusal = await unchanged(() => send(path, bytes, responseStream));
      expect(status[refusal.code]).toBe('RESOURCE_EXHAUSTED');
    });

    test.each<[string, Parameters<typeof ReclaimRequest.fromPartial>[0], string]>([
      ['none', {}, 'leftover_ids'],
      ['too many', { leftoverIds: Array.from({ length: 501 }, () => 'file:bj0123456789abcdef') }, 'leftover_ids'],
      ['a value that is not an id of one', { leftoverIds: ['/etc/passwd'] }, 'leftover_ids'],
      ['a request id with a space', { leftoverIds: ['file:bj0123456789abcdef'], requestId: ' ' }, 'request_id'],
    ])('Reclaim: %s', async (_what, request, field) => {
      const { path } = present(METHODS.find(({ name }) => name === 'reclaim'));
      const bytes = ReclaimRequest.encode(ReclaimRequest.fromPartial({ ...request, apply: true })).finish();
      const refusal = await unchanged(() => send(path, Buffer.from(bytes)));
      expect(seen(refusal)).toMatchObject({ reason: 'FIELD_INVALID', metadata: { field } });
    });

    test('an unknown method', async () => {
      const refusal = await unchanged(() => send('/blockjob.v1.BlockJobService/Explode', Buffer.alloc(0)));
      expect(status[refusal.code]).toBe('UNIMPLEMENTED');
    });
  });

  describe('a QEMU that does not answer', () => {
    const UNREACHABLE = { code: 'UNAVAILABLE', reason: 'QEMU_UNREACHABLE' };

    async function expectUnreachable(domain: string, why: RegExp): Promise<void> {
      await eventually(`${domain} is unreachable: ${why.source}`, async () =>
        why.test(await whyOf(domain)) ? true : undefined,
      );
      for (const ask of asked(domain)) {
        // The reason of a current attempt differs.
        const refusal = await unchanged(ask);
        expect(seen(refusal)).toEqual({ ...UNREACHABLE, metadata: { domain } });
      }
      const listed = (await service.listDomains()).find(({ name }) => name === domain);
      const info = ErrorInfo.decode(present(listed?.error?.details[0]).value);
      expect(info).toMatchObject({ reason: 'QEMU_UNREACHABLE', metadata: { domain } });
      // The others are served as usual.
      expect((await service.getDomain('vm')).error).toBeUndefined();
    }

    test.each(['another client holds its socket', 'it does not run'])('%s', async (what) => {
      await using other = await startQemu({ style: 'drive', name: 'held', disks: [] });
      const client = connect(other.qmpPath);
      try {
        await once(client, 'data');
        if (what === 'it does not run') {
          await stop(other.pid);
          client.destroy();
        }
        await run('ln', [other.qmpPath, join(sockets, 'held.sock')]);
        await eventually('held is listed', async () =>
          (await service.listDomains()).find(({ name }) => name === 'held'),
        );
        await expectUnreachable('held', /another client holds this QMP socket, or QEMU does not run/);
        // While it still cannot connect: for a QEMU that answers, the connection counts, not the socket's name.
        await rm(join(sockets, 'held.sock'));
        await eventually('held is gone', async () =>
          (await service.listDomains()).every(({ name }) => name !== 'held') ? true : undefined,
        );
      } finally {
        client.destroy();
        process.kill(other.pid, 'SIGCONT');
      }
      expect(await refused(service.getDomain('held'))).toMatchObject({ reason: 'DOMAIN_NOT_FOUND' });
    });

    test('it was killed', async () => {
      const killed = await startQemu({
        style: 'drive',
        name: 'killed',
        disks: [],
        extraArgs: monitorIn(sockets, 'killed'),
      });
      await using _ = killed;
      await service.domainUp('killed');
      process.kill(killed.pid, 'SIGKILL');
      await killed.exited;
      await expectUnreachable('killed', /nobody listens/);
      await rm(join(sockets, 'killed.sock'));
      await eventually('killed is gone', async () =>
        (await refused(service.getDomain('killed'))).reason === 'DOMAIN_NOT_FOUND' ? true : undefined,
      );
    });

    test('it hangs: no other domain, and no list, waits for it', async () => {
      await using hung = await startQemu({
        style: 'drive',
        name: 'hung',
        disks: [],
        extraArgs: monitorIn(sockets, 'hung'),
      });
      await service.domainUp('hung');
      await stop(hung.pid);
      try {
        const of = service.getDomain('vm');
        const list = service.listDomains();
        const started = service.startCopy(copy(here('beside'), { bandwidthBytesPerSecond: SLOW }));
        const first = await Promise.race([
          Promise.all([of, list, started]).then(() => 'all answered'),
          new Promise((resolve) => setTimeout(resolve, 20_000, 'still waiting after 20 seconds')),
        ]);
        process.kill(hung.pid, 'SIGCONT');
        const { id } = await started;
        await Promise.all([of, list, service.abort({ job: byId(id) })]);
        expect(first).toBe('all answered');
      } finally {
        process.kill(hung.pid, 'SIGCONT');
      }
    });
  });
});
