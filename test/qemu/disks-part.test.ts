/** Disks that show only a part of a file: a program that opens the file by name does not find their contents. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, ImageFormat } from '../../generated/blockjob/v1/job.ts';
import { type AnyDisk, sameContents, startWith } from '../support/real-qemu/any-disk.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { type Qemu, run, type TestDir, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const COMPLETE = DestinationContent.DESTINATION_CONTENT_COMPLETE;
const UNSUITABLE = { reason: 'IMAGE_UNSUITABLE', metadata: { kind: 'PART' } };
let site: Site;

beforeAll(async () => {
  site = await Site.open();
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
});

/** A file of three parts, of which the second is an image. */
async function boxed(name: string): Promise<TestDir & { readonly box: string }> {
  const dir = await testDir();
  const box = join(dir.path, `${name}.box`);
  await writeFile(box, Buffer.concat([0x11, 0x22, 0x33].map((byte) => Buffer.alloc(MIB, byte))));
  return { ...dir, box };
}

const SLICE = { driver: 'raw', offset: MIB, size: MIB } as const;

function fileNode(filename: string) {
  return { driver: 'file', filename, 'auto-read-only': true };
}

/** An overlay, and one below it, over a part of the file. */
async function overPart(dir: string, box: string): Promise<AnyDisk> {
  const part = `json:${JSON.stringify({ ...SLICE, file: { driver: 'file', filename: box } })}`;
  const [middle, top] = [join(dir, 'middle.qcow2'), join(dir, 'top.qcow2')];
  const create = ['create', '-q', '-f', 'qcow2'];
  await run('qemu-img', [...create, '-F', 'raw', '-b', part, middle, String(MIB)]);
  await run('qemu-img', [...create, '-F', 'qcow2', '-b', middle, top, String(MIB)]);
  return {
    name: `m${dir.slice(-6)}`,
    nodes: [
      { ...SLICE, 'node-name': 'part', file: fileNode(box), 'read-only': true, 'auto-read-only': true },
      { driver: 'qcow2', 'node-name': 'middle', file: fileNode(middle), backing: 'part', 'read-only': true },
      { driver: 'qcow2', file: fileNode(top), backing: 'middle' },
    ],
    drive: `file=${top},format=qcow2`,
  };
}

describe.each(['blockdev', 'drive'] as const)('a chain over a part of a file, style %s', (style) => {
  let dir: Awaited<ReturnType<typeof boxed>>;
  let qemu: Qemu;
  let disk: { domain: string; disk: string };

  beforeAll(async () => {
    dir = await boxed('base');
    const any = await overPart(dir.path, dir.box);
    qemu = await startWith(site, style, any);
    disk = { domain: any.name, disk: 'disk0' };
    await qemu.admin.hmpQemuIo('/machine/peripheral/disk0/virtio-backend', 'write -P 0x44 0 64k');
  });

  afterAll(async () => {
    await qemu[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  });

  test('no header gets the name of the file: a pull down to it, and commits into it, are refused', async () => {
    expect(await refused(site.service.rebase({ disk, base: 'disk0[2]' }))).toMatchObject(UNSUITABLE);
    const lower = { disk, top: 'disk0[1]', base: 'disk0[2]' };
    expect(await refused(site.service.commit(lower))).toMatchObject(UNSUITABLE);
    const flags = [CommitFlag.COMMIT_FLAG_ACTIVE];
    expect(await refused(site.service.commit({ disk, flags }))).toMatchObject(UNSUITABLE);
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
  });

  test('an operation that names another image is allowed, and a whole copy is as the guest sees the disk', async () => {
    const path = join(dir.path, 'shallow.qcow2');
    const target = { $case: 'file', value: path } as const;
    const shallow = await site.service.startCopy({ disk, destination: { target }, shallow: true });
    await site.service.until(shallow.id, 'STATE_READY');
    await site.service.abort({ job: byId(shallow.id) });
    const whole = join(dir.path, 'whole.qcow2');
    const copy = await site.service.startCopy({
      disk,
      destination: { target: { $case: 'file', value: whole } },
    });
    await site.service.until(copy.id, 'STATE_READY');
    const job = await site.service.abort({ job: byId(copy.id) });
    expect(job.outcome?.destinationContent).toBe(COMPLETE);
    await qemu[Symbol.asyncDispose]();
    const [top, ...copies] = [join(dir.path, 'top.qcow2'), path, whole].map(
      (name) => `driver=qcow2,file.filename=${name}`,
    );
    for (const one of copies) expect(await sameContents([top ?? ''], [one])).toBe(true);
  });
});

describe.each(['blockdev', 'drive'] as const)('the overlay of a part of a file, style %s', (style) => {
  test('is not copied alone over it: the copy’s header would name the file', async () => {
    await using dir = await boxed('base');
    const two = await overPart(dir.path, dir.box);
    const middle = join(dir.path, 'middle.qcow2');
    const [part, node] = two.nodes;
    await using qemu = await startWith(site, style, {
      ...two,
      nodes: [part ?? {}, { ...node, 'read-only': false }],
      drive: `file=${middle},format=qcow2`,
    });
    const disk = { domain: two.name, disk: 'disk0' };
    const path = join(dir.path, 'copy.qcow2');
    const request = { disk, destination: { target: { $case: 'file', value: path } }, shallow: true } as const;
    expect(await refused(site.service.startCopy(request))).toMatchObject(UNSUITABLE);
    expect(existsSync(path)).toBe(false);
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
  });
});

describe.each(['blockdev', 'drive'] as const)('a disk that is a part of a file, style %s', (style) => {
  test.each([
    ['in the middle', `offset=${MIB},size=${MIB}`, SLICE, MIB],
    ['at the beginning', `size=${MIB}`, { driver: 'raw', size: MIB }, MIB],
    ['at the end', `offset=${MIB}`, { driver: 'raw', offset: MIB }, 2 * MIB],
  ] as const)('%s: it is copied, and its file is not called safe to delete', async (_where, options, raw, bytes) => {
    await using dir = await boxed('disk');
    const name = `m${dir.path.slice(-6)}`;
    await using qemu = await startWith(site, style, {
      name,
      nodes: [{ ...raw, file: { driver: 'file', filename: dir.box } }],
      drive: `file=${dir.box},format=raw,${options}`,
    });
    await mkdir(join(dir.path, 'out'));
    const path = join(dir.path, 'out', 'copy.raw');
    const destination = { target: { $case: 'file', value: path }, format: ImageFormat.IMAGE_FORMAT_RAW } as const;
    const { id } = await site.service.startCopy({ disk: { domain: name, disk: 'disk0' }, destination });
    await site.service.until(id, 'STATE_READY');
    const { outcome } = await site.service.abort({ job: byId(id), pivot: true });
    expect(outcome).toMatchObject({ guestWritesTo: path, destinationContent: COMPLETE, safeToDelete: [] });
    await qemu[Symbol.asyncDispose]();
    const part = `driver=raw,${options},file.driver=file,file.filename=${dir.box}`;
    expect(await sameContents([part], [`driver=raw,size=${bytes},file.driver=file,file.filename=${path}`])).toBe(true);
  });
});
