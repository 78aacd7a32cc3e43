/* oxlint-disable unicorn/consistent-function-scoping */
/**
 * Destinations that are there already: the contents that become a part of the copy, and the caller's consent to that.
 * Results are opened cold, by their headers alone.
 */
import { copyFile, mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { ImageFormat, type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { eventually, graphOf, hashOf, present } from '../support/checks.ts';
import { LoopDevice } from '../support/images/loop-device.ts';
import { NbdServer } from '../support/images/nbd-server.ts';
import { needs } from '../support/means.ts';
import { startWith } from '../support/real-qemu/any-disk.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { run, type Style, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const { IMAGE_FORMAT_RAW: RAW, IMAGE_FORMAT_QCOW2: QCOW2, IMAGE_FORMAT_UNSPECIFIED: ANY } = ImageFormat;
const STYLES: readonly Style[] = ['blockdev', 'drive'];
const SIZE = 4 * MIB;

let site: Site;

async function qemuImg(...args: string[]): Promise<void> {
  await run('qemu-img', args);
}

async function fill(path: string, format: 'raw' | 'qcow2', command = `write -P 0xee 0 ${SIZE}`): Promise<void> {
  await run('qemu-io', ['-f', format, '-c', command, path]);
}

function file(path: string, format: ImageFormat = ANY) {
  return { target: { $case: 'file', value: path }, format } as const;
}

const snap1 = ({ chain }: Machine) => present(chain[1]).path;
const base = ({ chain }: Machine) => present(chain[0]).path;

/** An image for the copy, over `backing`. */
async function over(machine: Machine, backing: string, format = 'qcow2'): Promise<string> {
  const path = join(machine.dir, 'there');
  await qemuImg('create', '-qfqcow2', '-F', format, '-u', '-b', backing, path, String(SIZE));
  return path;
}

function request(machine: Machine, path: string, format: ImageFormat = ANY) {
  return { disk: machine.disk, destination: file(path, format), shallow: true, reuseExternal: true };
}

/** The guest writes, moves, and writes again. */
async function moved(machine: Machine, path: string, format: ImageFormat = ANY): Promise<Job> {
  await machine.guest.write(0);
  const { id } = await site.service.startCopy(request(machine, path, format));
  await site.service.until(id, 'STATE_READY');
  await machine.guest.write(1);
  return await site.service.abort({ job: byId(id), pivot: true });
}

/** Changes a byte there; a second call restores it. */
async function flip(path: string, at: number): Promise<void> {
  await using image = await open(path, 'r+');
  const { buffer } = await image.read(Buffer.alloc(1), 0, 1, at);
  await image.write(Buffer.of((buffer[0] ?? 0) ^ 1), 0, 1, at);
}

const words = (job: Job) => present(job.outcome).evidence.map(({ text }) => text);
const safe = (job: Job) => present(job.outcome).safeToDelete.map(({ path }) => path);

beforeAll(async () => {
  site = await Site.open(['/dev']);
});

afterAll(async () => {
  await site?.[Symbol.asyncDispose]();
});

describe.skipIf(needs('qemu')).each(STYLES)('a shallow copy into an existing destination, style %s', (style) => {
  test('an image that cannot show the contents below the active one is refused, and nothing is touched', async () => {
    await using machine = await site.machine({ style });
    const { dir, qemu } = machine;
    const other = join(dir, 'other');
    await qemuImg('create', '-qfqcow2', other, String(2 * SIZE));
    await copyFile(snap1(machine), join(dir, 'copied'));
    await qemuImg('create', '-qfqcow2', join(dir, 'flat'), String(SIZE));
    await qemuImg('create', '-qfraw', join(dir, 'raw'), String(SIZE));
    const before = await graphOf(qemu.admin);
    for (const [name, format, why] of [
      ['flat', ANY, 'it is empty, and has no backing file'],
      ['raw', RAW, 'it is all but empty, and has no backing file'],
    ] as const) {
      const path = join(dir, name);
      const held = await hashOf(path);
      const answer = await refused(site.service.startCopy(request(machine, path, format)));
      expect(answer).toMatchObject({ reason: 'REUSED_UNLIKE', metadata: { path, backing: snap1(machine) } });
      expect(answer.message).toContain(why);
      expect(await hashOf(path)).toBe(held);
    }
    for (const [backing, format] of [
      [other, 'qcow2'],
      [join(dir, 'copied'), 'raw'],
      [base(machine), 'qcow2'],
    ] as const) {
      const path = await over(machine, backing, format);
      const answer = await refused(site.service.startCopy(request(machine, path)));
      expect([backing, answer.reason]).toEqual([backing, 'REUSED_UNLIKE']);
      expect(answer.message).toContain(backing);
    }
    expect(await graphOf(qemu.admin)).toEqual(before);
  });

  test('a header that takes the guest’s own image for another format is refused: the next start of the VM would use it', async () => {
    await using machine = await site.machine({ style });
    const path = await over(machine, snap1(machine), 'raw');
    const answer = await refused(site.service.startCopy(request(machine, path)));
    expect(answer).toMatchObject({ reason: 'CHAIN_UNUSABLE', metadata: { path: snap1(machine) } });
    expect(answer.message).toContain(`the header of ${path} says raw, but it is qcow2`);
  });

  test('one that holds nothing and is over the same image is proved: the old image may be deleted', async () => {
    await using machine = await site.machine({ style });
    const path = await over(machine, snap1(machine));
    const plan = await site.service.planOf('startCopy', StartCopyRequest.fromPartial(request(machine, path)));
    const text = `${path} held no data of its own before the copy began, and its backing file is ${snap1(machine)} itself`;
    expect(plan.notes).toEqual([text, expect.stringMatching(/^needs about \d+ bytes/)]);
    const job = await moved(machine, path);
    expect([safe(job), words(job).includes(text)]).toEqual([[machine.top.path], true]);
    await machine.qemu[Symbol.asyncDispose]();
    await run('rm', [machine.top.path]);
    await machine.guest.expectIn(path, 'qcow2');
  });

  test.each(['a wrong copy of the chain', 'the very image, and contents of its own', 'a flat raw image'])(
    'over %s it depends on the caller’s word, and the old image is not called safe to delete',
    async (what) => {
      await using machine = await site.machine({ style });
      const isFlat = what === 'a flat raw image';
      const copied = join(machine.dir, 'pool', 'snap1');
      await mkdir(dirname(copied));
      await copyFile(snap1(machine), copied);
      if (what === 'a wrong copy of the chain') await fill(copied, 'qcow2', 'write -P 0x77 0 64k');
      const flat = join(machine.dir, 'flat');
      if (isFlat) await qemuImg('convert', '-U', '-fqcow2', '-Oraw', snap1(machine), flat);
      const isOwn = what.startsWith('the very image');
      const path = isFlat ? flat : await over(machine, isOwn ? snap1(machine) : copied);
      if (isOwn) await fill(path, 'qcow2', 'write -P 0x77 0 64k');
      const job = await moved(machine, path, isFlat ? RAW : ANY);
      expect(job.state).toBe(Job_State.STATE_COMPLETED);
      expect(safe(job)).toEqual([]);
      const word = `only the caller says that ${path} had the contents of ${snap1(machine)} before the copy began: they were not compared`;
      expect(words(job)).toContain(word);
      // Also in a later answer.
      expect(words(await site.service.getInfo(job.id))).toContain(word);
    },
  );
});

describe.skipIf(needs('qemu'))('a whole copy into what is there, full of something else', () => {
  /** Written zeroes, unwritten zeroes, and data. */
  const kinds = ['qcow2', 'qcow2 of small clusters', 'raw', 'device', 'qcow2 on a device', 'nbd'] as const;

  test.each(STYLES.flatMap((style) => kinds.map((kind) => ({ style, kind }))))(
    'reuses nothing: $kind, style $style',
    async ({ style, kind }) => {
      await using stack = new AsyncDisposableStack();
      const machine = stack.use(await site.machine({ style }));
      const { disk, dir, guest } = machine;
      await guest.write(0);
      const path = join(dir, 'there');
      const isQcow2 = kind.startsWith('qcow2');
      let at = path;
      let destination: Parameters<typeof site.service.startCopy>[0]['destination'] = file(path, isQcow2 ? QCOW2 : RAW);
      if (kind === 'device' || kind === 'qcow2 on a device') {
        if (needs('loop')) return;
        at = stack.use(await LoopDevice.make(dir, isQcow2 ? 2 * SIZE : SIZE)).path;
        if (isQcow2) await qemuImg('create', '-qfqcow2', at, String(SIZE));
        destination = { target: { $case: 'blockDevice', value: at }, format: isQcow2 ? QCOW2 : RAW };
      } else if (kind === 'nbd') {
        const server = stack.use(await NbdServer.start({ folder: dir, sizeBytes: SIZE, over: 'unix' }));
        await using served = await open(server.file, 'r+');
        await served.write(Buffer.alloc(SIZE, 0xee), 0, SIZE, 0);
        at = server.file;
        destination = { target: { $case: 'nbd', value: server.target }, format: RAW };
      } else {
        const clusters = kind === 'qcow2 of small clusters' ? ['-ocluster_size=4k'] : [];
        await qemuImg('create', '-q', '-f', isQcow2 ? 'qcow2' : 'raw', ...clusters, path, String(SIZE));
      }
      if (kind !== 'nbd') await fill(at, isQcow2 ? 'qcow2' : 'raw');
      const { id } = await site.service.startCopy({ disk, destination, reuseExternal: true });
      await site.service.until(id, 'STATE_READY');
      await guest.write(1);
      const job = await site.service.abort({ job: byId(id), pivot: true });
      expect(job.state).toBe(Job_State.STATE_COMPLETED);
      // Nothing of it was taken over, and nothing depends on a caller's word.
      expect(words(job).filter((text) => text.includes('word'))).toEqual([]);
      expect(safe(job)).toEqual([machine.top.path]);
      await guest.write(2);
      await machine.qemu[Symbol.asyncDispose]();
      await guest.expectIn(at, isQcow2 ? 'qcow2' : 'raw');
    },
  );
});

describe.skipIf(needs('qemu')).each(STYLES)('verify_reused, style %s', (style) => {
  /** A copy of the chain in another folder, and an image over it. */
  async function copiedChain(machine: Machine): Promise<{ readonly path: string; readonly below: string }> {
    const pool = join(machine.dir, 'pool');
    await mkdir(pool);
    const below = join(pool, 'snap1');
    await copyFile(base(machine), join(pool, 'base'));
    await copyFile(snap1(machine), below);
    await qemuImg('rebase', '-q', '-u', '-F', 'qcow2', '-b', join(pool, 'base'), below);
    return { path: await over(machine, below), below };
  }

  const verified = (machine: Machine, path: string, format: ImageFormat = ANY) => ({
    ...request(machine, path, format),
    verifyReused: true,
  });

  /** The state after a failed start. */
  async function expectNothing(machine: Machine, before: unknown): Promise<void> {
    expect(await graphOf(machine.qemu.admin)).toEqual(before);
    expect((await site.service.listJobs({ domain: machine.disk.domain })).jobs).toEqual([]);
    expect(await site.service.listLeftovers(machine.disk.domain)).toEqual([]);
  }

  /** Compares for long, and resolves when the comparison runs. */
  async function slowly(machine: Machine) {
    const { path } = await copiedChain(machine);
    const before = await graphOf(machine.qemu.admin);
    const answer = refused(site.service.startCopy({ ...verified(machine, path), bandwidthBytesPerSecond: 65_536n }));
    const job = await eventually('a comparison', async () => {
      const { jobs } = await site.service.listJobs({ domain: machine.disk.domain });
      return jobs.find(({ progress }) => progress !== undefined && progress.toVerifyBytes > 0n);
    });
    return { answer, job, before, path };
  }

  test('equal contents are proved, and the old image may be deleted', async () => {
    await using machine = await site.machine({ style });
    const { path } = await copiedChain(machine);
    const plan = await site.service.planOf('startCopy', StartCopyRequest.fromPartial(verified(machine, path)));
    expect(plan.notes).toEqual([
      `${path} and ${snap1(machine)} are read completely and compared before the copy begins`,
      expect.stringMatching(/^needs about \d+ bytes/),
    ]);
    expect(plan.steps.map(({ name }) => name).slice(-99, -1)).toContain('verify-reused');
    await machine.guest.write(0);
    const { id, options } = await site.service.startCopy(verified(machine, path));
    expect(options?.verifyReused).toBe(true);
    await site.service.until(id, 'STATE_READY');
    await machine.guest.write(1);
    const job = await site.service.abort({ job: byId(id), pivot: true });
    expect(safe(job)).toEqual([machine.top.path]);
    expect(words(job)).toContain(
      `${path} had the contents of ${snap1(machine)}: both were compared completely before the copy began`,
    );
    await machine.qemu[Symbol.asyncDispose]();
    await run(
      'rm',
      machine.chain.map((image) => image.path),
    );
    await machine.guest.expectIn(path, 'qcow2');
  });

  test.each([0, 1_234_432, SIZE - 512])(
    'a difference of one sector is found, at byte %i, in each of three places',
    async (at) => {
      await using machine = await site.machine({ style });
      const { path, below } = await copiedChain(machine);
      const before = await graphOf(machine.qemu.admin);
      const change = async (image: string) => {
        // A byte that differs from the present one.
        const { stdout } = await run('qemu-io', ['-f', 'qcow2', '-c', `read -v ${at} 512`, image]);
        const byte = Number.parseInt(/^[0-9a-f]{8}: {2}([0-9a-f]{2})/m.exec(stdout)?.[1] ?? '', 16);
        await fill(image, 'qcow2', `write -P ${(byte + 1) % 256} ${at} 512`);
      };
      for (const [image, format] of [
        [below, ANY],
        [path, ANY],
      ] as const) {
        const kept = `${image}.kept`;
        await copyFile(image, kept);
        await change(image);
        const answer = await refused(site.service.startCopy(verified(machine, path, format)));
        expect(answer).toMatchObject({
          reason: 'REUSED_DIFFERS',
          metadata: { path, backing: snap1(machine), offset: String(at) },
        });
        await copyFile(kept, image);
      }
      const flat = join(machine.dir, 'flat');
      await qemuImg('convert', '-U', '-fqcow2', '-Oraw', snap1(machine), flat);
      await flip(flat, at + 511);
      const answer = await refused(site.service.startCopy(verified(machine, flat, RAW)));
      expect([answer.reason, answer.metadata['offset']]).toEqual(['REUSED_DIFFERS', String(at)]);
      await expectNothing(machine, before);
    },
  );

  test('it can be cancelled: the start gets that error, and nothing is left', async () => {
    await using machine = await site.machine({ style });
    const { answer, job, before } = await slowly(machine);
    expect([job.state, job.progress?.toVerifyBytes]).toEqual([Job_State.STATE_STARTING, BigInt(SIZE)]);
    // The guest continues meanwhile.
    await machine.guest.write(0);
    await site.service.abort({ job: byId(job.id) });
    expect(await answer).toMatchObject({ reason: 'JOB_ENDED' });
    await expectNothing(machine, before);
    await machine.qemu[Symbol.asyncDispose]();
    await machine.guest.expectIn(machine.top.path, 'qcow2');
  });

  test('a time limit ends it, too', async () => {
    await using machine = await site.machine({ style });
    const { path } = await copiedChain(machine);
    const before = await graphOf(machine.qemu.admin);
    const limits = { bandwidthBytesPerSecond: 65_536n, timeLimit: { seconds: 1n, nanos: 0 } };
    const answer = await refused(site.service.startCopy({ ...verified(machine, path), ...limits }));
    expect(answer).toMatchObject({ reason: 'TIME_LIMIT_REACHED' });
    await expectNothing(machine, before);
  });

  test('another client that ends it has found no difference', async () => {
    await using machine = await site.machine({ style });
    const { answer, job, before } = await slowly(machine);
    await machine.qemu.admin.execute('job-cancel', { id: `${job.id}-verify` });
    const message = expect.stringContaining('another client ended it') as string;
    expect(await answer).toMatchObject({ reason: 'VERIFY_BROKEN_OFF', message });
    await expectNothing(machine, before);
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)('a service that is restarted by %s undoes the start', async (how) => {
    await using machine = await site.machine({ style });
    const { answer, before, path } = await slowly(machine);
    answer.catch(() => undefined);
    await site.restart(how, machine.disk.domain);
    await eventually('the start is undone', async () => {
      const { jobs } = await site.service.listJobs({ domain: machine.disk.domain });
      return jobs.length === 0 ? true : undefined;
    });
    await expectNothing(machine, before);
    const { id } = await site.service.startCopy(verified(machine, path));
    await site.service.until(id, 'STATE_READY');
    expect((await site.service.abort({ job: byId(id) })).options?.verifyReused).toBe(true);
  });

  test('over NBD, and not of other copies than those that reuse data', async () => {
    await using machine = await site.machine({ style });
    const { disk, dir } = machine;
    await mkdir(join(dir, 'small'));
    await using small = await NbdServer.start({ folder: join(dir, 'small'), sizeBytes: SIZE / 2, over: 'unix' });
    const tooSmall = { target: { $case: 'nbd', value: small.target }, format: RAW } as const;
    const before = await graphOf(machine.qemu.admin);
    const toSmall = site.service.startCopy({ disk, destination: tooSmall, shallow: true, verifyReused: true });
    expect(await refused(toSmall)).toMatchObject({ reason: 'EXPORT_SIZE_DIFFERS' });
    await expectNothing(machine, before);
    await using server = await NbdServer.start({ folder: dir, sizeBytes: SIZE, over: 'unix' });
    const destination = { target: { $case: 'nbd', value: server.target }, format: RAW } as const;
    const start = { disk, destination, shallow: true, verifyReused: true };
    expect(await refused(site.service.startCopy(start))).toMatchObject({ reason: 'REUSED_DIFFERS' });
    await qemuImg('convert', '-n', '-U', '-fqcow2', '-Oraw', snap1(machine), server.file);
    const { id } = await site.service.startCopy(start);
    await site.service.until(id, 'STATE_READY');
    const job = await site.service.abort({ job: byId(id), pivot: true });
    expect(words(job).filter((text) => text.includes('compared completely before'))).toHaveLength(1);
    await machine.qemu[Symbol.asyncDispose]();
    await machine.guest.expectIn(server.file, 'raw');
  });
});

describe.skipIf(needs('qemu'))('verify_reused over an image that is shorter than the disk', () => {
  test('the part behind its end is compared with zeroes', async () => {
    await using dir = await testDir();
    const [lower, top, there] = ['lower', 'top', 'there'].map((name) => join(dir.path, name)) as [
      string,
      string,
      string,
    ];
    await qemuImg('create', '-qfqcow2', lower, String(MIB));
    await fill(lower, 'qcow2', `write -P 1 0 ${MIB}`);
    await qemuImg('create', '-qfqcow2', '-Fqcow2', '-b', lower, top, String(SIZE));
    await qemuImg('convert', '-fqcow2', '-Oraw', top, there);
    const name = `m${dir.path.slice(-6)}`;
    const nodes = [
      { driver: 'qcow2', 'node-name': 'lower', file: { driver: 'file', filename: lower }, 'read-only': true },
      { driver: 'qcow2', file: { driver: 'file', filename: top }, backing: 'lower' },
    ];
    await using qemu = await startWith(site, 'blockdev', { name, nodes, drive: '' });
    const start = {
      disk: { domain: name, disk: 'disk0' },
      destination: file(there, RAW),
      shallow: true,
      reuseExternal: true,
      verifyReused: true,
    };
    const before = await graphOf(qemu.admin);
    for (const at of [3 * MIB, MIB, MIB - 512]) {
      await flip(there, at);
      const answer = await refused(site.service.startCopy(start));
      expect([answer.reason, answer.metadata['offset']]).toEqual(['REUSED_DIFFERS', String(at)]);
      await flip(there, at);
    }
    expect(await graphOf(qemu.admin)).toEqual(before);
    const { id } = await site.service.startCopy(start);
    await site.service.until(id, 'STATE_READY');
    const job = await site.service.abort({ job: byId(id), pivot: true });
    expect(safe(job)).toEqual([top]);
  });
});
