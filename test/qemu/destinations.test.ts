/** StartCopy to every kind of destination, with every option: existing files, block devices, NBD, limits. */
/* oxlint-disable vitest/no-conditional-expect, unicorn/consistent-function-scoping, unicorn/no-useless-spread */

import { constants, existsSync } from 'node:fs';
import { mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import {
  DestinationContent,
  ImageFormat,
  Job_State,
  OnNoSpace,
  OnReady,
  PauseGuest,
  WriteMode,
} from '../../generated/blockjob/v1/job.ts';
import { expectClean, graphOf, hashOf, journalEntries, listing, present } from '../support/checks.ts';
import { leavesZeroesOut } from '../support/golden/golden.ts';
import { LoopDevice } from '../support/images/loop-device.ts';
import { NbdServer, tlsCredentials } from '../support/images/nbd-server.ts';
import { needs } from '../support/means.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { type ImageFormat as Format, imageInfo, run, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const { IMAGE_FORMAT_RAW: RAW, IMAGE_FORMAT_QCOW2: QCOW2 } = ImageFormat;
const SIZE = 4 * MIB;

type Options = Partial<Omit<StartCopyRequest, 'disk' | 'destination'>>;

let site: Site;

/** Copies, pivots or aborts while the guest writes, and compares the bytes. */
async function copied(
  machine: Machine,
  destination: NonNullable<StartCopyRequest['destination']>,
  options: Options,
  pivot: boolean,
) {
  const { guest, disk } = machine;
  await guest.write(0);
  const { id } = await site.service.startCopy({ disk, destination, ...options });
  await site.service.until(id, 'STATE_READY');
  await guest.write(1);
  const job = await site.service.abort({ job: byId(id), pivot });
  expect(job).toMatchObject({
    state: pivot ? Job_State.STATE_COMPLETED : Job_State.STATE_CANCELLED,
    outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE, destinationRemoved: false },
  });
  if (pivot) expectClean(await graphOf(machine.qemu.admin), id, [id, `${id}-file`]);
  return job;
}

function file(path: string, format: ImageFormat = 0) {
  return { target: { $case: 'file', value: path }, format } as const;
}

function device(path: string, format: ImageFormat = 0) {
  return { target: { $case: 'blockDevice', value: path }, format } as const;
}

describe.skipIf(needs('qemu'))('destinations', () => {
  beforeAll(async () => {
    site = await Site.open(['/dev', 'nbd://127.0.0.1']);
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  describe('an existing file', () => {
    const qemuImg = async (...args: string[]) => {
      await run('qemu-img', args);
    };

    test.each(['smaller', 'larger'])('%s: refused before anything is changed', async (which) => {
      await using machine = await site.machine();
      const { disk, dir, qemu } = machine;
      const bytes = String(which === 'smaller' ? SIZE - 512 : SIZE + 512);
      await qemuImg('create', '-qfqcow2', join(dir, 'q'), bytes);
      await qemuImg('create', '-qfraw', join(dir, 'r'), bytes);
      const before = [await listing(dir), await graphOf(qemu.admin), await hashOf(join(dir, 'q'))];
      for (const destination of [file(join(dir, 'q')), file(join(dir, 'q'), QCOW2), file(join(dir, 'r'), RAW)]) {
        const answer = await refused(site.service.startCopy({ disk, destination, reuseExternal: true }));
        expect(answer).toMatchObject({
          reason: 'SIZE_MISMATCH',
          metadata: { destinationBytes: bytes, sourceBytes: String(SIZE) },
        });
      }
      expect([await listing(dir), await graphOf(qemu.admin), await hashOf(join(dir, 'q'))]).toEqual(before);
    });

    test('an image with an unknown format, or one that could mislead QEMU, is refused', async () => {
      await using machine = await site.machine();
      const { disk, dir, qemu } = machine;
      const at = (name: string) => join(dir, name);
      await writeFile(at('zeroes'), Buffer.alloc(SIZE));
      await writeFile(at('empty'), '');
      await qemuImg('create', '-qfvmdk', at('vmdk'), String(SIZE));
      await qemuImg('create', '-qfqed', at('qed'), String(SIZE));
      await qemuImg('create', '-qfqcow2', `-odata_file=${at('data')}`, at('external'), String(SIZE));
      await qemuImg('create', '-qfqcow2', '-ocompat=0.10', '-Fqcow2', '-b', present(machine.chain[0]).path, at('v2'));
      await writeFile(at('cut'), (await readFile(at('external'))).subarray(0, 60));
      const before = [await listing(dir), await graphOf(qemu.admin)];
      for (const name of ['zeroes', 'empty', 'vmdk', 'qed', 'external', 'v2', 'cut']) {
        const answer = await refused(
          site.service.startCopy({ disk, destination: file(at(name)), reuseExternal: true }),
        );
        expect([name, answer.reason]).toEqual([name, 'FORMAT_UNKNOWN']);
      }
      expect([await listing(dir), await graphOf(qemu.admin)]).toEqual(before);
    });

    test('a file that does not exist is missing, and not made', async () => {
      await using machine = await site.machine();
      const path = join(machine.dir, 'nothing');
      const request = { disk: machine.disk, destination: file(path), reuseExternal: true };
      expect(await refused(site.service.startCopy(request))).toMatchObject({ reason: 'DESTINATION_MISSING' });
      expect(existsSync(path)).toBe(false);
    });

    test('an image that a VM has open is refused under each of its names', async () => {
      await using machine = await site.machine();
      await using other = await site.machine({ pattern: 2 });
      const { disk, dir } = machine;
      const [lower, top] = [present(other.chain[0]).path, other.top.path];
      await symlink(top, join(dir, 'link'));
      await run('ln', [top, join(dir, 'hard')]);
      const own = [machine.top.path, present(machine.chain[0]).path];
      const before = await Promise.all([lower, top, ...own].map(hashOf));
      for (const path of [lower, top, join(dir, 'link'), join(dir, 'hard'), ...own]) {
        const request = { disk, destination: file(path), reuseExternal: true };
        expect(await refused(site.service.startCopy(request))).toMatchObject({ reason: 'DESTINATION_IN_USE' });
      }
      expect(await Promise.all([lower, top, ...own].map(hashOf))).toEqual(before);
    });

    test('two copies at once to two names of one file: one of them is refused', async () => {
      await using one = await site.machine();
      await using two = await site.machine({ pattern: 2 });
      const path = join(one.dir, 'image');
      await qemuImg('create', '-qfqcow2', path, String(SIZE));
      await run('ln', [path, join(one.dir, 'hard')]);
      const start = async (machine: Machine, to: string) =>
        await site.service
          .startCopy({ disk: machine.disk, destination: file(to), reuseExternal: true })
          .then(({ id }) => id)
          .catch(async (error: unknown) => (await refused(Promise.reject(error))).reason);
      const answers = await Promise.all([start(one, path), start(two, join(one.dir, 'hard'))]);
      expect(answers.filter((answer) => answer === 'DESTINATION_IN_USE')).toHaveLength(1);
      const [id] = answers.filter((answer) => answer.startsWith('bj'));
      await site.service.abort({ job: byId(present(id)) });
    });
  });

  describe('the data of a guest does not decide the format of its image: the attack', () => {
    /** A raw disk on which the guest has written a qcow2 header that names a secret of the host. */
    async function imitation(path: string, secret: string, backingFormat: string | undefined): Promise<void> {
      const header = `${path}.header`;
      const format = backingFormat === undefined ? [] : ['-F', backingFormat];
      await run('qemu-img', ['create', '-q', '-u', '-fqcow2', '-b', secret, ...format, header, String(SIZE)]).catch(
        async () => await run('qemu-img', ['create', '-q', '-u', '-fqcow2', '-ocompat=1.1', header, String(SIZE)]),
      );
      await run('qemu-img', ['rebase', '-u', '-fqcow2', '-b', secret, ...format, header]).catch(() => undefined);
      const bytes = Buffer.alloc(SIZE);
      (await readFile(header)).copy(bytes);
      await writeFile(path, bytes);
      await run('rm', [header]);
    }

    test('a raw image that imitates qcow2 is never opened as qcow2 with COPY_RAW or format RAW', async () => {
      await using machine = await site.machine();
      await using vault = await secretFolder();
      const { disk, dir, qemu, guest } = machine;
      const secret = join(vault.path, 'secret');
      await writeFile(secret, Buffer.alloc(SIZE, 'the secret of the host '));
      const path = join(dir, 'imitation');
      await imitation(path, secret, 'raw');
      await guest.write(0);
      const { id } = await site.service.startCopy({ disk, destination: file(path, RAW), reuseExternal: true });
      await site.service.until(id, 'STATE_READY');
      const nodes = (await graphOf(qemu.admin)).nodes.filter((node) => node.startsWith(id));
      expect(nodes.filter((node) => / qcow2 /.test(node))).toEqual([]);
      expect(nodes.join('\n')).not.toContain('secret');
      expect((await site.service.abort({ job: byId(id), pivot: true })).state).toBe(Job_State.STATE_COMPLETED);
      await qemu[Symbol.asyncDispose]();
      await guest.expectIn(path, 'raw');
    });

    test('if it is probed on request, the secret is not opened', async () => {
      await using machine = await site.machine();
      const { disk, dir, qemu } = machine;
      await using vault = await secretFolder();
      const secret = join(vault.path, 'secret');
      await writeFile(secret, Buffer.alloc(SIZE, 'the secret of the host '));
      await symlink(secret, join(dir, 'way-in'));
      const before = await graphOf(qemu.admin);
      const cases = [
        { secret, format: 'raw', reason: 'DESTINATION_NOT_ALLOWED' },
        { secret: join(dir, 'way-in'), format: 'raw', reason: 'DESTINATION_NOT_ALLOWED' },
        { secret: '../../../../../../../../etc/passwd', format: 'raw', reason: 'DESTINATION_NOT_ALLOWED' },
        { secret: present(machine.chain[0]).path, format: undefined, reason: undefined },
        { secret: 'nbd://127.0.0.1:1/x', format: 'raw', reason: 'DESTINATION_NOT_ALLOWED' },
        {
          secret: `json:{"driver":"raw","file":{"driver":"file","filename":"${secret}"}}`,
          format: 'raw',
          reason: 'DESTINATION_NOT_ALLOWED',
        },
      ];
      for (const [index, one] of cases.entries()) {
        const path = join(dir, `imitation-${index}`);
        await imitation(path, one.secret, one.format);
        const request = { disk, destination: file(path), reuseExternal: true, shallow: true };
        if (one.reason === undefined) continue;
        expect([index, (await refused(site.service.startCopy(request))).reason]).toEqual([index, one.reason]);
      }
      // A full copy needs no backing image and opens none, unless QEMU would leave out zeroes without it.
      const whole = { disk, destination: file(join(dir, 'imitation-0')), reuseExternal: true };
      if (await leavesZeroesOut()) {
        expect((await refused(site.service.startCopy(whole))).reason).toBe('DESTINATION_NOT_ALLOWED');
        expect(await graphOf(qemu.admin)).toEqual(before);
        return;
      }
      const { id } = await site.service.startCopy(whole);
      await site.service.until(id, 'STATE_READY');
      expect((await graphOf(qemu.admin)).nodes.join('\n')).not.toContain(secret);
      await site.service.abort({ job: byId(id) });
      expect(await graphOf(qemu.admin)).toEqual(before);
    });
  });

  describe.skipIf(needs('loop'))('a block device', () => {
    test.each([
      { name: 'raw, named as a device', by: device, format: RAW, pivot: true },
      { name: 'raw, named as a file, aborted', by: file, format: RAW, pivot: false },
    ])('$name', async ({ by, format, pivot }) => {
      await using machine = await site.machine();
      using loop = await LoopDevice.make(machine.dir, SIZE);
      const job = await copied(machine, by(loop.path, format), {}, pivot);
      expect(job.destination).toMatchObject({ target: { $case: 'blockDevice', value: loop.path }, format: RAW });
      await machine.qemu[Symbol.asyncDispose]();
      await machine.guest.expectIn(loop.path, 'raw');
    });

    test('a link to a device is that device; the format of a raw disk need not be given', async () => {
      await using machine = await site.machine({ formats: ['raw'] });
      using loop = await LoopDevice.make(machine.dir, SIZE);
      await symlink(loop.path, join(machine.dir, 'link'));
      const job = await copied(machine, file(join(machine.dir, 'link')), {}, true);
      expect(job.outcome?.guestWritesTo).toBe(loop.path);
      await machine.qemu[Symbol.asyncDispose]();
      await machine.guest.expectIn(loop.path, 'raw');
    });

    test('it gets a header only if its reuse was requested, and is probed then', async () => {
      await using machine = await site.machine();
      const { disk } = machine;
      using loop = await LoopDevice.make(machine.dir, 8 * MIB);
      const start = async (destination: ReturnType<typeof device>, options: Options = {}) =>
        (await refused(site.service.startCopy({ disk, destination, ...options }))).reason;
      expect(await start(device(loop.path))).toBe('DESTINATION_EXISTS');
      expect(await start(device(loop.path, QCOW2))).toBe('DESTINATION_EXISTS');
      expect(await start(device(loop.path, RAW))).toBe('SIZE_MISMATCH');
      expect(await start(device(loop.path), { reuseExternal: true })).toBe('FORMAT_UNKNOWN');
      expect((await readFile(loop.path)).every((byte) => byte === 0)).toBe(true);
      const first = await copied(machine, device(loop.path, QCOW2), { reuseExternal: true, shallow: true }, false);
      expect(first.options?.basePath).toBe(present(machine.chain[1]).path);
      await machine.guest.expectIn(loop.path, 'qcow2');
      expect((await imageInfo(loop.path, 'qcow2'))['backing-filename']).toBe(present(machine.chain[1]).path);
      // It has a header now, and is opened as the header says.
      const second = await copied(machine, device(loop.path), { reuseExternal: true, shallow: true }, true);
      expect(second.destination?.format).toBe(QCOW2);
      await machine.qemu[Symbol.asyncDispose]();
      await machine.guest.expectIn(loop.path, 'qcow2');
    });

    test('a path that is not a device, or is in use by the host, is refused', async () => {
      await using machine = await site.machine();
      const { disk, dir } = machine;
      using loop = await LoopDevice.make(dir, SIZE);
      await writeFile(join(dir, 'file'), 'x');
      const reason = async (path: string) =>
        (await refused(site.service.startCopy({ disk, destination: device(path, RAW) }))).reason;
      expect(await reason(join(dir, 'file'))).toBe('NOT_A_BLOCK_DEVICE');
      expect(await reason(join(dir, 'nothing'))).toBe('DESTINATION_MISSING');
      expect(await reason('/dev/null')).toBe('NOT_A_BLOCK_DEVICE');
      // As by a mounted file system.
      const exclusive = await open(loop.path, constants.O_RDONLY | constants.O_EXCL);
      expect(await reason(loop.path)).toBe('DESTINATION_IN_USE');
      await exclusive.close();
    });

    test('a raw disk over a block device is a source as any other', async () => {
      await using images = await testDir();
      using loop = await LoopDevice.make(images.path, SIZE);
      const storage = { driver: 'host_device', 'node-name': 'dev', filename: loop.path };
      const extraArgs = [
        ...['-blockdev', JSON.stringify(storage), '-blockdev', 'driver=raw,node-name=dev-raw,file=dev'],
        ...['-device', 'virtio-blk-pci,id=disk1,drive=dev-raw'],
      ];
      await using machine = await site.machine({ formats: ['raw'], extraArgs });
      const { qemu, dir, disk } = machine;
      const { admin } = qemu;
      await admin.hmpQemuIo('disk1', 'write -P 7 0 1M');
      for (const pivot of [false, true]) {
        const path = join(dir, `copy-${pivot}`);
        const { id } = await site.service.startCopy({
          disk: { ...disk, disk: 'disk1' },
          destination: file(path, pivot ? QCOW2 : 0),
        });
        await site.service.until(id, 'STATE_READY');
        await site.service.abort({ job: byId(id), pivot });
        const format: Format = pivot ? 'qcow2' : 'raw';
        const { stdout } = await run('qemu-io', ['-U', '-r', '-f', format, '-c', 'read -P 7 0 1M', path]);
        expect(stdout).not.toContain('failed');
      }
    });
  });

  describe('NBD', () => {
    test.each([
      { over: 'unix', pivot: true },
      { over: 'unix', pivot: false },
      { over: 'tcp', pivot: true },
      { over: 'tcp', pivot: false },
    ] as const)('over $over, pivot $pivot', async ({ over, pivot }) => {
      await using machine = await site.machine();
      await using server = await NbdServer.start({ folder: machine.dir, sizeBytes: SIZE, over });
      const nbd = server.target;
      const job = await copied(machine, { target: { $case: 'nbd', value: nbd }, format: 0 }, {}, pivot);
      expect(job.destination).toEqual({ target: { $case: 'nbd', value: nbd }, format: RAW });
      if (pivot) expect(job.outcome?.guestWritesTo).toMatch(over === 'unix' ? /^nbd\+unix:/ : /^nbd:\/\/127/);
      await machine.guest.write(2);
      await machine.qemu[Symbol.asyncDispose]();
      if (pivot) await machine.guest.expectIn(server.file, 'raw');
      else await machine.guest.expectIn(machine.top.path, 'qcow2');
    });

    test('with TLS, if QEMU has the credentials', async () => {
      await using credentials = await testDir();
      const ends = await tlsCredentials(credentials.path);
      const object = `tls-creds-x509,id=tls0,endpoint=client,dir=${ends.client},verify-peer=yes`;
      await using machine = await site.machine({ extraArgs: ['-object', object] });
      await using server = await NbdServer.start({
        folder: machine.dir,
        sizeBytes: SIZE,
        over: 'tcp',
        tls: ends.server,
      });
      const plain = server.target;
      const before = await graphOf(machine.qemu.admin);
      const without = { target: { $case: 'nbd', value: plain }, format: 0 } as const;
      expect((await refused(site.service.startCopy({ disk: machine.disk, destination: without }))).reason).toBe(
        'NBD_REFUSED',
      );
      const unknown = { target: { $case: 'nbd', value: { ...plain, tlsCredentialsId: 'none' } }, format: 0 } as const;
      expect(await refused(site.service.startCopy({ disk: machine.disk, destination: unknown }))).toMatchObject({
        code: status.FAILED_PRECONDITION,
        reason: 'TLS_CREDENTIALS_UNUSABLE',
      });
      expect(await graphOf(machine.qemu.admin)).toEqual(before);
      const nbd = { ...plain, tlsCredentialsId: 'tls0' };
      await copied(machine, { target: { $case: 'nbd', value: nbd }, format: 0 }, {}, true);
      await machine.qemu[Symbol.asyncDispose]();
      await machine.guest.expectIn(server.file, 'raw');
    });

    test('another size is refused with nothing left; a server that is not allowed, too', async () => {
      await using machine = await site.machine();
      await using server = await NbdServer.start({ folder: machine.dir, sizeBytes: SIZE * 2, over: 'unix' });
      const before = await graphOf(machine.qemu.admin);
      const start = async (value: object) =>
        (
          await refused(
            site.service.startCopy({ disk: machine.disk, destination: { target: { $case: 'nbd', value } } as never }),
          )
        ).reason;
      expect(await start({ server: server.server, exportName: 'disk0' })).toBe('EXPORT_SIZE_DIFFERS');
      expect(await start({ server: server.server, exportName: 'no such' })).toBe('NBD_REFUSED');
      expect(await start({ server: { $case: 'tcp', value: { host: '127.0.0.2', port: 1 } } })).toBe(
        'DESTINATION_NOT_ALLOWED',
      );
      expect(await start({ server: { $case: 'unixSocket', value: '/var/run/nbd.sock' } })).toBe(
        'DESTINATION_NOT_ALLOWED',
      );
      expect(await start({})).toBe('FIELD_INVALID');
      expect(await graphOf(machine.qemu.admin)).toEqual(before);
    });

    test('a hanging server: only force ends the copy, and the guest continues', async () => {
      await using machine = await site.machine();
      await using server = await NbdServer.start({ folder: machine.dir, sizeBytes: SIZE, over: 'unix' });
      const { disk, guest, qemu, top } = machine;
      await guest.write(0);
      const nbd = { server: server.server, exportName: 'disk0' };
      const { id } = await site.service.startCopy({
        disk,
        destination: { target: { $case: 'nbd', value: nbd } } as never,
      });
      await site.service.until(id, 'STATE_READY');
      const commands = await commandsOf(qemu);
      await server.hang();
      await guest.write(1);
      const asked = await site.service.abort({ job: byId(id), force: true, returnImmediately: true });
      // Before QEMU 6.0 no command gets through until the server is back.
      if (!commands.has('yank')) server.goOn();
      // With something under way QEMU 7.2 may keep waiting for the server, whatever the command: the job is CANCELLING
      // until the server is gone.
      await guest.write(2);
      const givesUp = setTimeout(() => server.goOn(), 5000);
      expect(await site.ended(asked).finally(() => clearTimeout(givesUp))).toMatchObject({
        state: Job_State.STATE_CANCELLED,
        outcome: {
          guestWritesTo: top.path,
          destinationContent: DestinationContent.DESTINATION_CONTENT_STALE,
        },
      });
      await qemu[Symbol.asyncDispose]();
      await guest.expectIn(top.path, 'qcow2');
    });
  });

  describe('options', () => {
    test('granularity, buffer and cluster size are as requested, or as in the source', async () => {
      await using machine = await site.machine();
      const { disk, dir, qemu } = machine;
      const path = join(dir, 'copy');
      const options = { granularityBytes: 4096n, bufferBytes: 32n * BigInt(MIB), bandwidthBytesPerSecond: 65_536n };
      const job = await site.service.startCopy({ disk, destination: file(path), ...options });
      expect(job.options).toMatchObject({ granularityBytes: 4096n, bufferBytes: 32n * BigInt(MIB) });
      const nodes = await qemu.admin.execute<{ 'dirty-bitmaps'?: { granularity: number; name?: string }[] }[]>(
        'query-named-block-nodes',
        { flat: true },
      );
      const own = nodes.flatMap((node) => node['dirty-bitmaps'] ?? []).filter(({ name }) => name === undefined);
      expect(own.map(({ granularity }) => granularity)).toContain(4096);
      await site.service.abort({ job: byId(job.id) });
      expect(existsSync(path)).toBe(false);
    });

    test('a time limit ends a copy that is not READY in time; its file is removed', async () => {
      await using machine = await site.machine();
      const { disk, dir } = machine;
      const path = join(dir, 'copy');
      const job = await site.service.startCopy({
        disk,
        destination: file(path),
        bandwidthBytesPerSecond: 65_536n,
        timeLimit: { seconds: 5n, nanos: 0 },
      });
      const ended = await site.ended(job);
      expect(ended).toMatchObject({ state: Job_State.STATE_CANCELLED, options: { timeLimit: { seconds: 5n } } });
      expect(ended.error?.message).toContain('its time limit of 5 seconds expired');
      expect(existsSync(path)).toBe(false);
    });

    test('a time limit that is kept changes nothing; with HOLD it is for READY only', async () => {
      await using machine = await site.machine();
      const { disk, dir } = machine;
      const job = await site.service.startCopy({
        disk,
        destination: file(join(dir, 'copy')),
        timeLimit: { seconds: 10n, nanos: 0 },
      });
      const ready = await site.service.until(job.id, 'STATE_READY');
      const limit = present(present(ready.job).createTime).getTime() + 10_000;
      // An entry later than the limit proves that the job has been looked at since.
      await sleep(limit + 200 - Date.now());
      await site.service.setSpeed(job.id, 65_536n);
      expect((await site.service.getInfo(job.id)).state).toBe(Job_State.STATE_READY);
      await site.service.abort({ job: byId(job.id), pivot: true });
    });

    test.each([
      { ending: 'pivot', shallow: false },
      { ending: 'pivot', shallow: true },
      { ending: 'abort', shallow: false },
      { ending: 'abort before READY', shallow: false },
      { ending: 'force', shallow: true },
    ])('BLOCKING, shallow $shallow, $ending: the guest is paused where QEMU could crash', async (row) => {
      await using machine = await site.machine();
      const { disk, dir, qemu, guest, top } = machine;
      const path = join(dir, 'copy');
      await guest.write(0);
      const isEarly = row.ending === 'abort before READY';
      const { id, options } = await site.service.startCopy({
        disk,
        destination: file(path),
        writeMode: WriteMode.WRITE_MODE_BLOCKING,
        shallow: row.shallow,
        bandwidthBytesPerSecond: isEarly ? 65_536n : 0n,
      });
      expect(options?.writeMode).toBe(WriteMode.WRITE_MODE_BLOCKING);
      await guest.write(1);
      if (!isEarly) await site.service.until(id, 'STATE_READY');
      await guest.write(2);
      const job = await site.service.abort({
        job: byId(id),
        pivot: row.ending === 'pivot',
        force: row.ending === 'force',
      });
      const holds = (await journalEntries(site.stateFolder, id, job.revision))
        .map(({ entry }) => entry)
        .filter((entry) => entry.startsWith('guest-'));
      const forced = isEarly || row.ending === 'force';
      const once = ['guest-held', 'guest-released'];
      expect(holds).toEqual(forced ? [...once, ...once] : once);
      expect(await qemu.admin.execute('query-status')).toMatchObject({ status: 'running' });
      await guest.write(3);
      await qemu[Symbol.asyncDispose]();
      await guest.expectIn(row.ending === 'pivot' ? path : top.path, 'qcow2');
    });

    test('BLOCKING with pause_guest NEVER pauses no guest, and cannot FAIL for lack of space', async () => {
      await using machine = await site.machine();
      const { disk, dir } = machine;
      const blocking = { writeMode: WriteMode.WRITE_MODE_BLOCKING, pauseGuest: PauseGuest.PAUSE_GUEST_NEVER };
      const { id } = await site.service.startCopy({ disk, destination: file(join(dir, 'copy')), ...blocking });
      await site.service.until(id, 'STATE_READY');
      const job = await site.service.abort({ job: byId(id) });
      const entries = await journalEntries(site.stateFolder, id, job.revision);
      expect(entries.filter(({ entry }) => entry.startsWith('guest-'))).toEqual([]);
      const answer = await refused(
        site.service.startCopy({
          disk,
          destination: file(join(dir, 'other')),
          ...blocking,
          onNoSpace: OnNoSpace.ON_NO_SPACE_FAIL,
        }),
      );
      expect(answer).toMatchObject({ reason: 'FIELD_INVALID', fields: ['on_no_space'] });
    });

    test('shallow into raw is refused; a relative name is, too, if no name is written', async () => {
      await using machine = await site.machine();
      await using raw = await site.machine({ formats: ['raw'] });
      const reason = async (from: Machine, format: ImageFormat, options: Options) => {
        const destination = file(join(from.dir, 'copy'), format);
        return (await refused(site.service.startCopy({ disk: from.disk, destination, ...options }))).reason;
      };
      expect(await reason(machine, RAW, { shallow: true })).toBe('SHALLOW_INTO_RAW');
      expect(await reason(machine, QCOW2, { relativeBacking: true })).toBe('RELATIVE_UNSUPPORTED');
      expect(await reason(machine, 0, { relativeBacking: true, shallow: true, reuseExternal: true })).toBe(
        'RELATIVE_UNSUPPORTED',
      );
      expect(await reason(raw, QCOW2, { relativeBacking: true, shallow: true })).toBe('RELATIVE_UNSUPPORTED');
      expect(existsSync(join(machine.dir, 'copy'))).toBe(false);
      await copied(raw, file(join(raw.dir, 'copy'), RAW), { shallow: true, onReady: OnReady.ON_READY_HOLD }, true);
    });
  });
});

async function commandsOf({ admin }: Machine['qemu']): Promise<ReadonlySet<string>> {
  return new Set((await admin.execute<{ name: string }[]>('query-commands')).map(({ name }) => name));
}

/** A folder in which no copy may be made. */
async function secretFolder() {
  const path = `/var/tmp/bj-vault-${process.pid}-${Date.now()}`;
  await mkdir(path);
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await run('rm', ['-r', path]);
    },
  };
}
