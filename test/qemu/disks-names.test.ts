/** Names that do not fit into a header, and formats with clusters of their own. */
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag, RebaseFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, ImageFormat } from '../../generated/blockjob/v1/job.ts';
import { sameContents, startWith } from '../support/real-qemu/any-disk.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { run, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
});

describe('a base with a path of more bytes than a header holds', () => {
  test('is not named: the start is refused', async () => {
    await using dir = await testDir();
    const paths = [await deepIn(dir.path), join(dir.path, 'middle'), join(dir.path, 'top')];
    for (const path of paths) await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(MIB)]);
    const name = `m${dir.path.slice(-6)}`;
    // A header cannot say it: so this graph is of -blockdev alone.
    await using qemu = await startWith(site, 'blockdev', { name, nodes: chain(paths), drive: '' });
    const disk = { domain: name, disk: 'disk0' };
    const tooLong = { reason: 'NAME_TOO_LONG', metadata: { bytes: String(paths[0]?.length), maximum: '1023' } };
    expect(await refused(site.service.rebase({ disk, base: 'disk0[2]' }))).toMatchObject(tooLong);
    expect(await refused(site.service.commit({ disk, top: 'disk0[1]', base: 'disk0[2]' }))).toMatchObject(tooLong);
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
    // The base of an active commit is in no header.
    const job = await site.service.commit({ disk, base: 'disk0[2]', flags: [CommitFlag.COMMIT_FLAG_ACTIVE] });
    await site.service.until(job.id, 'STATE_READY');
    await site.service.abort({ job: byId(job.id) });
  });

  test('is named relatively by a copy beside it', async () => {
    await using dir = await testDir();
    const [base, top] = [await deepIn(dir.path), join(dir.path, 'top')];
    for (const path of [base, top]) await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(MIB)]);
    const name = `m${dir.path.slice(-6)}`;
    await using _qemu = await startWith(site, 'blockdev', { name, nodes: chain([base, top]), drive: '' });
    const disk = { domain: name, disk: 'disk0' };
    const to = (value: string) => ({ disk, destination: { target: { $case: 'file', value } }, shallow: true }) as const;
    const beside = to(join(dirname(base), 'copy:1'));
    for (const request of [
      to(join(dir.path, 'copy')),
      { ...to(join(dir.path, 'copy')), relativeBacking: true },
      beside,
    ]) {
      expect(await refused(site.service.startCopy(request))).toMatchObject({ reason: 'NAME_TOO_LONG' });
    }
    const { id } = await site.service.startCopy({ ...beside, relativeBacking: true });
    await site.service.until(id, 'STATE_READY');
    await site.service.abort({ job: byId(id) });
  });
});

describe('a backing file with a name that looks like a protocol', () => {
  test('is found by its relative name', async () => {
    await using dir = await testDir();
    const [base, top, copy] = [join(dir.path, 'nbd:base'), join(dir.path, 'top'), join(dir.path, 'copy')];
    for (const path of [base, top]) await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(MIB)]);
    const name = `m${dir.path.slice(-6)}`;
    await using qemu = await startWith(site, 'blockdev', { name, nodes: chain([base, top]), drive: '' });
    const destination = { target: { $case: 'file', value: copy } } as const;
    const request = { disk: { domain: name, disk: 'disk0' }, destination, shallow: true, relativeBacking: true };
    const { id } = await site.service.startCopy(request);
    await site.service.until(id, 'STATE_READY');
    await site.service.abort({ job: byId(id), pivot: true });
    await qemu[Symbol.asyncDispose]();
    // The next start of the VM opens it like this.
    const { stdout } = await run('qemu-img', ['info', '--backing-chain', '--output=json', copy]);
    expect(JSON.parse(stdout)).toMatchObject([{ 'backing-filename': './nbd:base' }, { format: 'qcow2' }]);
  });
});

describe('a relative name that leads to another file than QEMU has open', () => {
  test('is not kept', async () => {
    await using dir = await testDir();
    const [base, other, middle, top] = ['base', 'other', 'middle', 'top'].map((name) => join(dir.path, name));
    const paths = [other ?? '', middle ?? '', top ?? ''];
    for (const path of [base ?? '', other ?? ''])
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(MIB)]);
    for (const [path, below] of [
      [middle ?? '', 'base'],
      [top ?? '', 'middle'],
    ] as const) {
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', below, path]);
    }
    const name = `m${dir.path.slice(-6)}`;
    await using qemu = await startWith(site, 'blockdev', { name, nodes: chain(paths), drive: '' });
    const disk = { domain: name, disk: 'disk0' };
    const unsupported = { reason: 'RELATIVE_UNSUPPORTED' };
    const pull = { disk, base: 'disk0[2]', flags: [RebaseFlag.REBASE_FLAG_RELATIVE] };
    expect(await refused(site.service.rebase(pull))).toMatchObject(unsupported);
    const commit = { disk, top: 'disk0[1]', base: 'disk0[2]', flags: [CommitFlag.COMMIT_FLAG_RELATIVE] };
    expect(await refused(site.service.commit(commit))).toMatchObject(unsupported);
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
  });
});

async function deepIn(dir: string): Promise<string> {
  const deep = join(dir, ...Array.from({ length: 6 }, () => 'd'.repeat(200)));
  await mkdir(deep, { recursive: true });
  return join(deep, 'base');
}

/** Base first. */
function chain(paths: readonly string[]): readonly object[] {
  return paths.map((filename, at) => ({
    driver: 'qcow2',
    'node-name': `n${at}`,
    file: { driver: 'file', filename, 'auto-read-only': true },
    backing: at === 0 ? null : `n${at - 1}`,
    'read-only': at < paths.length - 1,
  }));
}

describe.each(['blockdev', 'drive'] as const)('sources of other formats, style %s', (style) => {
  test.each(['vhdx', 'vdi', 'vpc', 'vmdk', 'qed', 'qcow'])('%s', async (format) => {
    await using dir = await testDir();
    const image = join(dir.path, 'image');
    await run('qemu-img', ['create', '-q', '-f', format, image, String(64 * MIB)]);
    const name = `m${dir.path.slice(-6)}`;
    await using qemu = await startWith(site, style, {
      name,
      nodes: [{ driver: format, file: { driver: 'file', filename: image } }],
      drive: `file=${image},format=${format}`,
    });
    await qemu.admin.hmpQemuIo('/machine/peripheral/disk0/virtio-backend', 'write -P 0x5a 1M 3M');
    const path = join(dir.path, 'copy.qcow2');
    const destination = { target: { $case: 'file', value: path }, format: ImageFormat.IMAGE_FORMAT_QCOW2 } as const;
    const { id } = await site.service.startCopy({ disk: { domain: name, disk: 'disk0' }, destination });
    await site.service.until(id, 'STATE_READY');
    const { outcome } = await site.service.abort({ job: byId(id), pivot: true });
    expect(outcome?.destinationContent).toBe(DestinationContent.DESTINATION_CONTENT_COMPLETE);
    await qemu[Symbol.asyncDispose]();
    const opened = [`driver=${format},file.filename=${image}`, `driver=qcow2,file.filename=${path}`] as const;
    expect(await sameContents([opened[0]], [opened[1]])).toBe(true);
  });
});
