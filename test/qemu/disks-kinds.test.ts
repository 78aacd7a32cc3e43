/** The kinds of disks in docs/disks.md without a suite of their own, each as the table says. */
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { DestinationContent, ImageFormat, Job_State } from '../../generated/blockjob/v1/job.ts';
import { NbdServer } from '../support/images/nbd-server.ts';
import { type AnyDisk, sameContents, startWith } from '../support/real-qemu/any-disk.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { type Qemu, run, type TestDir, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const GUEST = '/machine/peripheral/disk0/virtio-backend';
const COMPLETE = DestinationContent.DESTINATION_CONTENT_COMPLETE;

let site: Site;
let dir: TestDir;

beforeAll(async () => {
  site = await Site.open();
  dir = await testDir();
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

const at = (name: string) => join(dir.path, name);

async function create(name: string, format: string, ...args: readonly string[]): Promise<string> {
  const path = at(name);
  await run('qemu-img', ['create', '-q', '-f', format, ...args, path, String(4 * MIB)]);
  return path;
}

async function filled(path: string, format: string, byte: number, where: string): Promise<string> {
  await run('qemu-io', ['-f', format, '-c', `write -P ${byte} ${where}`, path]);
  return path;
}

function file(filename: string) {
  return { driver: 'file', filename, 'auto-read-only': true };
}

function unsuitable(kind: string) {
  return { reason: 'IMAGE_UNSUITABLE', metadata: { kind } };
}

function copyOf(name: string, to: string): Pick<StartCopyRequest, 'disk' | 'destination'> {
  const target = { $case: 'file', value: at(to) } as const;
  const destination = { target, format: ImageFormat.IMAGE_FORMAT_QCOW2 };
  return { disk: { domain: name, disk: 'disk0' }, destination };
}

async function pivoted(request: Partial<StartCopyRequest>) {
  const { id } = await site.service.startCopy(request);
  await site.service.until(id, 'STATE_READY');
  return await site.service.abort({ job: byId(id), pivot: true });
}

/** Copied, the guest on the copy, QEMU ended: a fresh process finds the same contents in the copy. */
async function expectCopied(qemu: Qemu, name: string, before: readonly string[], more: Partial<StartCopyRequest> = {}) {
  const job = await pivoted({ ...copyOf(name, `${name}-copy`), ...more });
  expect(job.outcome?.destinationContent).toBe(COMPLETE);
  await qemu[Symbol.asyncDispose]();
  expect(await sameContents(before, [`driver=qcow2,file.filename=${at(`${name}-copy`)}`])).toBe(true);
  return job;
}

const qcow2At = (path: string) => [`driver=qcow2,file.filename=${path}`];

describe.each(['blockdev', 'drive'] as const)('style %s', (style) => {
  const named = (what: string) => `${what}-${style}`;
  const start = async (disk: AnyDisk) => await startWith(site, style, disk);

  test('an external data file: its contents are in the copy, and it is not called safe to delete', async () => {
    const name = named('data');
    const options = `data_file=${at(`${name}.data`)},data_file_raw=on`;
    const image = await filled(await create(name, 'qcow2', '-o', options), 'qcow2', 0x21, '1M 1M');
    await using qemu = await start({
      name,
      nodes: [{ driver: 'qcow2', file: file(image) }],
      drive: `file=${image},format=qcow2`,
    });
    const job = await expectCopied(qemu, name, qcow2At(image));
    expect(job.outcome?.safeToDelete.map(({ path }) => path)).toEqual([image]);
  });

  test('an external data file: it is filled by a pull', async () => {
    const name = named('pulled');
    const base = await filled(await create(`${name}.base`, 'qcow2'), 'qcow2', 0x31, '0 1M');
    const options = `data_file=${at(`${name}.data`)}`;
    const image = await create(name, 'qcow2', '-o', options, '-F', 'qcow2', '-b', base);
    await using qemu = await start({
      name,
      nodes: [
        { driver: 'qcow2', 'node-name': 'base', file: file(base), 'read-only': true },
        { driver: 'qcow2', file: file(image), backing: 'base' },
      ],
      drive: `file=${image},format=qcow2`,
    });
    const job = await site.ended(await site.service.rebase({ disk: { domain: name, disk: 'disk0' } }));
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    await qemu[Symbol.asyncDispose]();
    expect(await sameContents(qcow2At(base), qcow2At(image))).toBe(true);
  });

  test('compressed clusters, and extended L2 entries: the copy has the contents, and the entries', async () => {
    const name = named('packed');
    const plain = await filled(await create(`${name}.plain`, 'raw'), 'raw', 0x41, '1M 2M');
    const image = at(name);
    const options = 'extended_l2=on,cluster_size=128k';
    await run('qemu-img', ['convert', '-c', '-O', 'qcow2', '-o', options, '-f', 'raw', plain, image]);
    await using qemu = await start({
      name,
      nodes: [{ driver: 'qcow2', file: file(image) }],
      drive: `file=${image},format=qcow2`,
    });
    await expectCopied(qemu, name, qcow2At(image));
    const { stdout } = await run('qemu-img', ['info', '--output=json', at(`${name}-copy`)]);
    expect(JSON.parse(stdout)).toMatchObject({
      'cluster-size': 131_072,
      'format-specific': { data: { 'extended-l2': true } },
    });
  });

  test('a read-only disk: it is copied, and the guest still only reads', async () => {
    const name = named('ro');
    const image = await filled(await create(name, 'qcow2'), 'qcow2', 0x51, '0 1M');
    await using qemu = await start({
      name,
      nodes: [{ driver: 'qcow2', file: { ...file(image), 'read-only': true }, 'read-only': true }],
      drive: `file=${image},format=qcow2,read-only=on`,
    });
    const job = await pivoted(copyOf(name, `${name}-copy`));
    expect(job.outcome).toMatchObject({ destinationContent: COMPLETE, guestWritesTo: at(`${name}-copy`) });
    await qemu.admin.hmpQemuIo(GUEST, 'read -P 0x51 0 1M');
    await expect(qemu.admin.hmpQemuIo(GUEST, 'write 0 64k')).rejects.toThrow('read-only');
  });

  test('detect-zeroes: the disk keeps it', async () => {
    const name = named('zeroes');
    const image = await create(name, 'qcow2');
    await using qemu = await start({
      name,
      nodes: [{ driver: 'qcow2', file: file(image), discard: 'unmap', 'detect-zeroes': 'unmap' }],
      drive: `file=${image},format=qcow2,discard=unmap,detect-zeroes=unmap`,
    });
    await pivoted(copyOf(name, `${name}-copy`));
    const [block] = await qemu.admin.execute<{ inserted: { file: string; detect_zeroes: string } }[]>('query-block');
    expect(block?.inserted).toMatchObject({ file: at(`${name}-copy`), detect_zeroes: 'unmap' });
  });

  test.each(['raw', 'qcow2', 'vmdk', 'vdi', 'qed', 'qcow'])(
    'a copy over a backing image of format %s',
    async (format) => {
      const name = named(`over-${format}`);
      const base = await filled(await create(`${name}.base`, format), format, 0x61, '1M 1M');
      const image = await create(name, 'qcow2', '-F', format, '-b', base);
      await filled(image, 'qcow2', 0x62, '2M 1M');
      await using qemu = await start({
        name,
        nodes: [
          { driver: format, 'node-name': 'base', file: file(base), 'read-only': true },
          { driver: 'qcow2', file: file(image), backing: 'base' },
        ],
        drive: `file=${image},format=qcow2`,
      });
      const { state } = await expectCopied(qemu, name, qcow2At(image), { shallow: true });
      expect(state).toBe(Job_State.STATE_COMPLETED);
    },
  );

  test('a backing image on a network is named by its URI; a disk there gets no header that no program here can read', async () => {
    const name = named('net');
    const base = await filled(await create(`${name}.base`, 'qcow2'), 'qcow2', 0x71, '1M 1M');
    const folder = at(`${name}.served`);
    await mkdir(folder);
    await using server = await NbdServer.start({ folder, sizeBytes: 8 * MIB, over: 'unix' });
    await writeFile(server.file, readFileSync(base), { flag: 'r+' });
    const socket = join(folder, 'nbd.sock');
    const uri = `nbd+unix:///disk0?socket=${socket}`;
    const served = { driver: 'nbd', server: { type: 'unix', path: socket }, export: 'disk0' };
    const image = await create(name, 'qcow2', '-u', '-F', 'qcow2', '-b', uri);
    await using qemu = await start({
      name,
      nodes: [
        { driver: 'qcow2', 'node-name': 'base', file: served, 'read-only': true },
        { driver: 'qcow2', file: file(image), backing: 'base' },
      ],
      drive: `file=${image},format=qcow2`,
    });
    const { state } = await expectCopied(qemu, name, qcow2At(image), { shallow: true });
    expect(state).toBe(Job_State.STATE_COMPLETED);
    await using over = await startWith(site, 'blockdev', {
      name: `${name}-top`,
      nodes: [{ driver: 'qcow2', file: served }],
      drive: '',
    });
    const disk = { domain: `${name}-top`, disk: 'disk0' };
    expect(await refused(site.service.rebase({ disk }))).toMatchObject(unsuitable('REMOTE'));
    expect(await over.admin.execute('query-jobs')).toEqual([]);
  });
});

describe('graphs of -blockdev', () => {
  const LIMIT = ['-object', '{"qom-type":"throttle-group","id":"limit"}'];

  test('a filter above the image: its future is not known', async () => {
    const image = await create('filtered', 'qcow2');
    await using qemu = await startWith(site, 'blockdev', {
      name: 'filtered',
      nodes: [
        { driver: 'qcow2', 'node-name': 'below', file: file(image) },
        { driver: 'throttle', 'throttle-group': 'limit', file: 'below' },
      ],
      drive: '',
      extraArgs: LIMIT,
    });
    const request = copyOf('filtered', 'filtered-copy');
    expect(await refused(site.service.startCopy(request))).toMatchObject(unsuitable('FILTERED'));
    expect(await refused(site.service.rebase({ disk: request.disk }))).toMatchObject(unsuitable('FILTERED'));
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
  });

  test('a filter between image and file: it is copied without', async () => {
    const image = await filled(await create('layered', 'qcow2'), 'qcow2', 0x22, '0 1M');
    await using qemu = await startWith(site, 'blockdev', {
      name: 'layered',
      nodes: [
        { driver: 'throttle', 'node-name': 'slow', 'throttle-group': 'limit', file: file(image) },
        { driver: 'qcow2', file: 'slow' },
      ],
      drive: '',
      extraArgs: LIMIT,
    });
    const { state } = await expectCopied(qemu, 'layered', qcow2At(image));
    expect(state).toBe(Job_State.STATE_COMPLETED);
  });

  test('an unknown driver, and storage without a name', async () => {
    const images = [await create('q0', 'raw'), await create('q1', 'raw')];
    await using _quorum = await startWith(site, 'blockdev', {
      name: 'quorum',
      nodes: [
        ...images.map((path, index) => ({ driver: 'raw', 'node-name': `q${index}`, file: file(path) })),
        { driver: 'quorum', 'vote-threshold': 2, children: ['q0', 'q1'] },
      ],
      drive: '',
    });
    const request = copyOf('quorum', 'quorum-copy');
    expect(await refused(site.service.startCopy(request))).toMatchObject(unsuitable('UNKNOWN'));

    const image = await create('over-nothing', 'qcow2');
    await using _nameless = await startWith(site, 'blockdev', {
      name: 'nameless',
      nodes: [
        {
          driver: 'raw',
          'node-name': 'base',
          file: { driver: 'null-co', size: 4 * MIB, 'read-zeroes': true },
          'read-only': true,
        },
        { driver: 'qcow2', file: file(image), backing: 'base' },
      ],
      drive: '',
    });
    const shallow = { ...copyOf('nameless', 'nameless-copy'), shallow: true };
    expect(await refused(site.service.startCopy(shallow))).toMatchObject(unsuitable('NAMELESS'));
    expect((await pivoted(copyOf('nameless', 'nameless-copy'))).outcome?.destinationContent).toBe(COMPLETE);
  });
});
