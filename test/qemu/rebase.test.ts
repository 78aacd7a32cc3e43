/* oxlint-disable vitest/no-conditional-expect */
/** Rebase on real QEMUs: pulls of every extent, each copy of the seed's table, and the move of a whole chain. */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RebaseFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, ImageFormat, Job_State, JobKind } from '../../generated/blockjob/v1/job.ts';
import { expectClean, graphOf, hashOf, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { type ImageFormat as Format, imageInfo, run, type Style } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const {
  REBASE_FLAG_SHALLOW: SHALLOW,
  REBASE_FLAG_REUSE_EXT: REUSE_EXT,
  REBASE_FLAG_COPY_RAW: COPY_RAW,
  REBASE_FLAG_COPY: COPY,
  REBASE_FLAG_RELATIVE: RELATIVE,
  REBASE_FLAG_BANDWIDTH_BYTES: BANDWIDTH_BYTES,
} = RebaseFlag;
const STYLES: readonly Style[] = ['blockdev', 'drive'];

/** The service does not ask about a filter by name: the names of -drive's nodes differ between runs. */
async function qemuImg(...args: string[]): Promise<void> {
  await run('qemu-img', args);
}

function snap1({ chain }: Machine): string {
  return present(chain[1]).path;
}

describe.skipIf(needs('qemu'))('Rebase', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  interface Pull {
    readonly to: string;
    /** The index in the chain, base first; undefined: everything is pulled. */
    readonly base?: number;
    readonly by?: 'path' | 'index' | 'name';
    readonly flags?: readonly RebaseFlag[];
    /** The name in the header at the end. */
    readonly backing?: 'absolute' | 'relative';
  }
  const PULLS: readonly Pull[] = [
    { to: 'nothing below' },
    { to: 'the base by path', base: 0, by: 'path', backing: 'absolute' },
    { to: 'the base by index', base: 0, by: 'index', backing: 'absolute' },
    { to: 'the image just below by path', base: 1, by: 'path', backing: 'absolute' },
    { to: 'the image just below by its name', base: 1, by: 'name', backing: 'absolute' },
    { to: 'the base, relatively', base: 0, by: 'path', flags: [RELATIVE], backing: 'relative' },
  ];
  const PULL_CASES = STYLES.flatMap((style) => PULLS.map((pull) => ({ style, ...pull })));

  test.each(PULL_CASES)('-$style: pull to $to', async ({ style, base, by, flags = [], backing }) => {
    await using machine = await site.machine({ style, relative: true });
    const { qemu, chain, top, guest, disk } = machine;
    const lower = await Promise.all(chain.slice(0, -1).map(({ path }) => hashOf(path)));
    await guest.write(0);
    const image = base === undefined ? undefined : present(chain[base]);
    const name = image === undefined ? '' : nameOf(image.path, by, chain.length - 1 - present(base));
    // Slow enough for a look and for writes during the job.
    const job = await site.service.rebase({
      disk,
      base: name,
      flags: [...flags, BANDWIDTH_BYTES],
      bandwidth: BigInt(MIB),
    });
    expect(job).toMatchObject({
      kind: JobKind.JOB_KIND_PULL,
      destination: undefined,
      sourcePath: top.path,
      bandwidthBytesPerSecond: BigInt(MIB),
      options: { basePath: image?.path ?? '', relativeBacking: flags.length > 0 },
      outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_UNSPECIFIED, guestWritesTo: top.path },
    });
    await guest.write(1);
    // An image directly below the active one needs no pull.
    if (base !== 1) await site.service.setSpeed(job.id, 0n);
    const ended = await site.ended(job);
    expect(ended).toMatchObject({
      state: Job_State.STATE_COMPLETED,
      progress: { percent: 100, remainingBytes: 0n },
      error: undefined,
      outcome: { guestWritesTo: top.path, safeToDelete: [] },
    });
    const { disks } = await site.service.getDomain(disk.domain);
    const left = chain.slice(0, base === undefined ? 0 : base + 1).toReversed();
    expect(disks[0]?.chain.map(({ path }) => path)).toEqual([top.path, ...left.map(({ path }) => path)]);
    expectClean(await graphOf(qemu.admin), job.id);
    const files = (await graphOf(qemu.admin)).nodes
      .filter((node) => / file /.test(node))
      .map((node) => node.split(' ')[2]);
    expect(new Set(files)).toEqual(new Set([top.path, ...left.map(({ path }) => path)]));
    expect(await qemu.admin.execute('query-status')).toMatchObject({ status: 'running' });
    await guest.write(2);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(top.path, 'qcow2');
    const info = await imageInfo(top.path, 'qcow2');
    expect(info['backing-filename']).toBe(backing === 'relative' ? basename(image?.path ?? '') : image?.path);
    expect(await Promise.all(chain.slice(0, -1).map(({ path }) => hashOf(path)))).toEqual(lower);
  });

  function nameOf(path: string, by: Pull['by'], index: number): string {
    return by === 'index' ? `disk0[${index}]` : by === 'name' ? basename(path) : path;
  }

  test.each([
    { style: 'blockdev', base: '', paused: false },
    { style: 'drive', base: 'disk0[2]', paused: false },
    { style: 'blockdev', base: 'disk0[1]', paused: true },
  ] as const)('-$style: a COMPLETED pull to "$base" survives SIGKILL of QEMU, guest paused $paused', async (row) => {
    for (let tries = 0; tries < 3; tries += 1) {
      await using machine = await site.machine({ style: row.style });
      const { qemu, guest, top, disk } = machine;
      await guest.write(0);
      await qemu.admin.hmpQemuIo('disk0', 'flush');
      if (row.paused) await qemu.admin.execute('stop');
      const job = await site.ended(await site.service.rebase({ disk, base: row.base }));
      const running = (await qemu.admin.execute<{ running: boolean }>('query-status')).running;
      process.kill(qemu.pid, 'SIGKILL');
      await qemu.exited;
      expect(job.state).toBe(Job_State.STATE_COMPLETED);
      expect(running).toBe(!row.paused);
      await guest.expectIn(top.path, 'qcow2');
    }
  });

  test('a pull that is aborted leaves the chain correct, and can be started again', async () => {
    await using machine = await site.machine({ sizeBytes: 8 * MIB });
    const { guest, top, disk, qemu, chain } = machine;
    const before = await graphOf(qemu.admin);
    const job = await site.service.rebase({ disk, flags: [BANDWIDTH_BYTES], bandwidth: 65_536n });
    await guest.write(0);
    expect(await refused(site.service.abort({ job: byId(job.id), pivot: true }))).toMatchObject({
      reason: 'PIVOT_UNSUPPORTED',
    });
    expect(await refused(site.service.rebase({ disk }))).toMatchObject({ reason: 'BLOCK_JOB_ACTIVE' });
    const aborted = await site.service.abort({ job: byId(job.id) });
    expect(aborted).toMatchObject({ state: Job_State.STATE_CANCELLED, error: undefined });
    expect(await graphOf(qemu.admin)).toEqual(before);
    await guest.write(1);
    expect((await site.ended(await site.service.rebase({ disk }))).state).toBe(Job_State.STATE_COMPLETED);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(top.path, 'qcow2');
    expect(existsSync(present(chain[0]).path)).toBe(true);
  });

  test('invalid pulls are refused', async () => {
    await using machine = await site.machine();
    const { disk, top, qemu, dir, chain } = machine;
    const before = await graphOf(qemu.admin);
    const reason = async (base: string, ...flags: RebaseFlag[]) =>
      (await refused(site.service.rebase({ disk, base, flags }))).reason;
    expect(await reason(join(dir, 'nothing'))).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason(top.path)).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason('disk0[0]')).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason('disk0[3]')).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason('other[1]')).toBe('BASE_NOT_IN_CHAIN');
    expect(await reason('', RELATIVE)).toBe('BASE_REQUIRED');
    // The chain's headers name full paths: there is no relative name to keep.
    expect(await reason(present(chain[0]).path, RELATIVE)).toBe('RELATIVE_UNSUPPORTED');
    for (const flag of [SHALLOW, REUSE_EXT, COPY_RAW, RebaseFlag.REBASE_FLAG_COPY_DEV]) {
      expect(await reason(present(chain[0]).path, flag)).toBe('FLAG_REQUIRES_COPY');
    }
    expect(await graphOf(qemu.admin)).toEqual(before);
  });

  interface Copy {
    readonly flags: readonly RebaseFlag[];
    readonly into: string;
    /** Makes the files that must exist; the format to open it with in the end. */
    readonly make?: (path: string, machine: Machine) => Promise<void>;
    readonly format: Format;
    readonly backing?: (machine: Machine, path: string) => string;
  }
  const COPIES: readonly Copy[] = [
    { flags: [], into: 'a new file', format: 'qcow2' },
    { flags: [COPY_RAW], into: 'a new raw file', format: 'raw' },
    { flags: [SHALLOW], into: 'a new file over snap1', format: 'qcow2', backing: snap1 },
    {
      flags: [SHALLOW, RELATIVE],
      into: 'a new file over snap1, relatively',
      format: 'qcow2',
      backing: () => '../src/snap1.qcow2',
    },
    {
      flags: [REUSE_EXT],
      into: 'an empty qcow2',
      format: 'qcow2',
      make: async (path) => await qemuImg('create', '-qfqcow2', path, '4M'),
    },
    {
      flags: [REUSE_EXT],
      into: 'a qcow2 of other clusters, full of something else',
      format: 'qcow2',
      make: async (path) => {
        await qemuImg('create', '-qfqcow2', '-ocluster_size=4k', path, '4M');
        await run('qemu-io', ['-fqcow2', '-cwrite -P 0xee 0 4M', path]);
      },
    },
    {
      flags: [REUSE_EXT, COPY_RAW],
      into: 'a raw file full of something else',
      format: 'raw',
      make: async (path) => {
        await qemuImg('create', '-qfraw', path, '4M');
        await run('qemu-io', ['-fraw', '-cwrite -P 0xee 0 4M', path]);
      },
    },
    {
      flags: [REUSE_EXT, SHALLOW],
      into: 'a qcow2 over snap1 itself',
      format: 'qcow2',
      make: async (path, machine) => await qemuImg('create', '-qfqcow2', '-Fqcow2', '-b', snap1(machine), path),
      backing: snap1,
    },
    {
      flags: [REUSE_EXT, SHALLOW],
      into: 'a qcow2 with what snap1 shows',
      format: 'qcow2',
      make: async (path, machine) => await qemuImg('convert', '-U', '-fqcow2', '-Oqcow2', snap1(machine), path),
    },
    {
      flags: [REUSE_EXT, SHALLOW, COPY_RAW],
      into: 'a raw file with what snap1 shows',
      format: 'raw',
      make: async (path, machine) => await qemuImg('convert', '-U', '-fqcow2', '-Oraw', snap1(machine), path),
    },
  ];
  const COPY_CASES = STYLES.flatMap((style) =>
    COPIES.flatMap((copy) => [true, false].map((pivot) => ({ style, ...copy, pivot, named: copy.flags.map(String) }))),
  );

  test.each(COPY_CASES)('-$style: COPY with flags $named into $into, pivot $pivot', async (row) => {
    const { style, flags, make, format, backing, pivot } = row;
    await using machine = await site.machine({ style });
    const { qemu, top, guest, disk, dir, chain } = machine;
    const path = join(dir, 'dst', 'copy');
    await mkdir(dirname(path));
    await make?.(path, machine);
    const lower = await Promise.all(chain.slice(0, -1).map((image) => hashOf(image.path)));
    const made = existsSync(path) ? (await stat(path)).ino : undefined;
    await guest.write(0);
    const before = await graphOf(qemu.admin);
    const job = await site.service.rebase({ disk, base: path, flags: [COPY, ...flags] });
    expect(job).toMatchObject({
      kind: JobKind.JOB_KIND_COPY,
      destination: {
        target: { $case: 'file', value: path },
        format: format === 'raw' ? ImageFormat.IMAGE_FORMAT_RAW : ImageFormat.IMAGE_FORMAT_QCOW2,
      },
      options: { shallow: flags.includes(SHALLOW), reuseExternal: flags.includes(REUSE_EXT) },
    });
    await site.service.until(job.id, 'STATE_READY');
    await guest.write(1);
    const ended = await site.service.abort({ job: byId(job.id), pivot });
    expect(ended).toMatchObject({
      state: pivot ? Job_State.STATE_COMPLETED : Job_State.STATE_CANCELLED,
      outcome: {
        guestWritesTo: pivot ? path : top.path,
        destinationContent: DestinationContent.DESTINATION_CONTENT_COMPLETE,
        destinationRemoved: false,
      },
    });
    if (pivot) expectClean(await graphOf(qemu.admin), job.id, [job.id, `${job.id}-file`]);
    else expect(await graphOf(qemu.admin)).toEqual(before);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(path, format);
    const info = await imageInfo(path, format);
    expect(info['backing-filename']).toBe(backing?.(machine, path));
    if (made !== undefined) expect((await stat(path)).ino).toBe(made);
    expect(await Promise.all(chain.slice(0, -1).map((image) => hashOf(image.path)))).toEqual(lower);
  });

  test.each(STYLES)('-%s: a whole chain moves to another folder, and the guest with it', async (style) => {
    await using machine = await site.machine({ style, relative: true });
    const { qemu, chain, top, guest, disk, dir } = machine;
    await guest.write(0);
    // As in the seed's last paragraph: the copy is made beforehand and names its backing file relatively, and the
    // backing files are copied beside it.
    const folder = join(dir, 'new-pool');
    await mkdir(folder);
    for (const { path } of chain.slice(0, -1)) await copyFile(path, join(folder, basename(path)));
    const path = join(folder, basename(top.path));
    await qemuImg('create', '-qfqcow2', '-Fqcow2', '-b', 'snap1.qcow2', path);
    const job = await site.service.rebase({ disk, base: path, flags: [COPY, REUSE_EXT, SHALLOW] });
    await site.service.until(job.id, 'STATE_READY');
    await guest.write(1);
    const ended = await site.service.abort({ job: byId(job.id), pivot: true });
    expect(ended).toMatchObject({ state: Job_State.STATE_COMPLETED, outcome: { nextStartPath: path } });
    const { disks } = await site.service.getDomain(disk.domain);
    const moved = chain.toReversed().map((image) => join(folder, basename(image.path)));
    expect(disks[0]?.chain.map((image) => image.path)).toEqual(moved);
    // QEMU has nothing of the old folder open: it can be removed while the guest runs.
    const open = (await graphOf(qemu.admin)).nodes.filter((node) => node.includes(join(dir, 'src')));
    expect(open).toEqual([]);
    for (const image of chain) await run('mv', [image.path, join(dir, `gone-${basename(image.path)}`)]);
    await guest.write(2);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(path, 'qcow2');
    expect((await imageInfo(path, 'qcow2'))['backing-filename']).toBe('snap1.qcow2');
  });

  test('after an abort a moved chain is a complete copy, and nothing of it is open', async () => {
    await using machine = await site.machine({ relative: true });
    const { qemu, chain, top, guest, disk, dir } = machine;
    const folder = join(dir, 'new-pool');
    await mkdir(folder);
    for (const { path } of chain.slice(0, -1)) await copyFile(path, join(folder, basename(path)));
    const path = join(folder, basename(top.path));
    await qemuImg('create', '-qfqcow2', '-Fqcow2', '-b', 'snap1.qcow2', path);
    const before = await graphOf(qemu.admin);
    const job = await site.service.rebase({ disk, base: path, flags: [COPY, REUSE_EXT, SHALLOW] });
    await site.service.until(job.id, 'STATE_READY');
    await guest.write(1);
    expect((await site.service.abort({ job: byId(job.id) })).state).toBe(Job_State.STATE_CANCELLED);
    expect(await graphOf(qemu.admin)).toEqual(before);
    await guest.expectIn(path, 'qcow2');
  });
});
