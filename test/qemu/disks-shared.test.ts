/** Disks to which others write, too: the guest would never see their writes after a pivot. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { Accept, DestinationContent, ImageFormat } from '../../generated/blockjob/v1/job.ts';
import { type AnyDisk, startWith } from '../support/real-qemu/any-disk.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { type Qemu, run, type TestDir, testDir } from '../support/real-qemu/qemu.ts';
import { byId, refused } from '../support/service/caller.ts';

const GUEST = '/machine/peripheral/disk0/virtio-backend';
const SHARED = { reason: 'LOSS_NOT_ACCEPTED', metadata: { accept: 'SHARED_WRITER' } };
const { ACCEPT_SHARED_WRITER } = Accept;

let site: Site;
let dir: TestDir;
let image: string;

beforeAll(async () => {
  site = await Site.open();
  dir = await testDir();
  image = join(dir.path, 'shared.raw');
  await run('qemu-img', ['create', '-q', '-f', 'raw', image, String(4 * MIB)]);
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await dir[Symbol.asyncDispose]();
});

/** A VM on the image, which QEMU does not lock. */
function on(name: string, { device = '', readOnly = false } = {}): AnyDisk {
  const file = { driver: 'file', filename: image, locking: 'off', 'read-only': readOnly };
  return {
    name,
    nodes: [{ driver: 'raw', file, 'read-only': readOnly }],
    drive: `file=${image},format=raw,file.locking=off,read-only=${readOnly ? 'on' : 'off'}`,
    device,
  };
}

function copyOf(name: string, to: string) {
  const target = { $case: 'file', value: join(dir.path, to) } as const;
  const destination = { target, format: ImageFormat.IMAGE_FORMAT_UNSPECIFIED };
  return { disk: { domain: name, disk: 'disk0' }, destination };
}

async function copied(request: ReturnType<typeof copyOf> & { readonly accept?: Accept[] }) {
  const { id } = await site.service.startCopy(request);
  await site.service.until(id, 'STATE_READY');
  return await site.service.abort({ job: byId(id), pivot: true });
}

describe.each(['blockdev', 'drive'] as const)('style %s', (style) => {
  const name = (what: string) => `${what}-${style}`;

  test('a device that lets others write is not copied, unless the caller accepts that', async () => {
    await using qemu = await startWith(site, style, on(name('rw'), { device: ',share-rw=on' }));
    const request = copyOf(name('rw'), name('rw-copy'));
    expect(await refused(site.service.startCopy(request))).toMatchObject({
      ...SHARED,
      message: expect.stringContaining('share-rw'),
    });
    expect(await qemu.admin.execute('query-jobs')).toEqual([]);
    const job = await copied({ ...request, accept: [ACCEPT_SHARED_WRITER] });
    expect(job.outcome?.destinationContent).toBe(DestinationContent.DESTINATION_CONTENT_COMPLETE);
    expect(job.options?.accept).toEqual([ACCEPT_SHARED_WRITER]);
    expect(job.outcome?.evidence.map(({ text }) => text).join()).toContain(`SHARED_WRITER was accepted: ${image}`);
  });

  test('another VM that may write to the file is recognized, by whatever name; one that only reads is allowed', async () => {
    await using one = await startWith(site, style, on(name('one')));
    const request = copyOf(name('one'), name('one-copy'));
    await using other = await startWith(site, style, on(name('other')));
    expect(await refused(site.service.startCopy(request))).toMatchObject({
      ...SHARED,
      message: expect.stringContaining(`written by domain ${name('other')}`),
    });
    await other[Symbol.asyncDispose]();
    await using _reader = await startWith(site, style, on(name('reader'), { readOnly: true }));
    const job = await copied(request);
    expect(job.outcome?.destinationContent).toBe(DestinationContent.DESTINATION_CONTENT_COMPLETE);
    expect(await one.admin.execute('query-jobs')).toEqual([]);
  });

  test('a process that no monitor knows does, too', async () => {
    await using _qemu = await startWith(site, style, on(name('vm')));
    const request = copyOf(name('vm'), name('vm-copy'));
    await using stranger = await holding(image);
    expect(await refused(site.service.startCopy(request))).toMatchObject({
      ...SHARED,
      message: expect.stringContaining(`written by pid ${stranger.child.pid} (`),
    });
    await stranger[Symbol.asyncDispose]();
    expect((await copied(request)).outcome?.guestWritesTo).toBe(join(dir.path, name('vm-copy')));
  });

  test('another node of the same QEMU does, too', async () => {
    const spare = { driver: 'file', 'node-name': 'spare', filename: image, locking: 'off' };
    const extraArgs = ['-blockdev', JSON.stringify(spare)];
    await using qemu = await startWith(site, style, { ...on(name('two')), extraArgs });
    const request = copyOf(name('two'), name('two-copy'));
    expect(await refused(site.service.startCopy(request))).toMatchObject({
      ...SHARED,
      message: expect.stringContaining('written by node spare of the same QEMU'),
    });
    await qemu.admin.execute('blockdev-del', { 'node-name': 'spare' });
    expect((await copied(request)).outcome?.guestWritesTo).toBe(join(dir.path, name('two-copy')));
  });
});

describe('two devices on one node', () => {
  let qemu: Qemu;
  const vm = 'multipath';

  beforeAll(async () => {
    const [base, top] = [join(dir.path, 'base'), join(dir.path, 'top')];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, String(MIB)]);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', base, top]);
    qemu = await startWith(site, 'blockdev', {
      name: vm,
      nodes: [{ driver: 'qcow2', file: { driver: 'file', filename: top } }],
      drive: '',
      device: ',share-rw=on',
      extraArgs: ['-device', 'virtio-scsi-pci,id=s'],
    });
    await qemu.admin.execute('device_add', {
      driver: 'scsi-hd',
      id: 'other',
      bus: 's.0',
      drive: 'top',
      'share-rw': true,
    });
  });

  afterAll(async () => {
    await qemu[Symbol.asyncDispose]();
  });

  test('are left by none of them, unless the caller accepts that; then both move to the copy', async () => {
    const disk = { domain: vm, disk: 'disk0' };
    const flags = [CommitFlag.COMMIT_FLAG_ACTIVE];
    expect(await refused(site.service.commit({ disk, flags }))).toMatchObject(SHARED);
    const request = { ...copyOf(vm, 'both'), accept: [] };
    expect(await refused(site.service.startCopy(request))).toMatchObject(SHARED);
    const job = await copied({ ...request, accept: [ACCEPT_SHARED_WRITER] });
    expect(job.outcome?.destinationContent).toBe(DestinationContent.DESTINATION_CONTENT_COMPLETE);
    await qemu.admin.hmpQemuIo('other', 'write -P 0x66 0 64k');
    await qemu.admin.hmpQemuIo(GUEST, 'read -P 0x66 0 64k');
    // A pull leaves no disk: all writes go through the node that is filled.
    expect((await site.ended(await site.service.rebase({ disk }))).error).toBeUndefined();
  });
});

/** A process that has the file open for writing, and does nothing with it. */
async function holding(path: string): Promise<AsyncDisposable & { readonly child: ChildProcess }> {
  const child = spawn('sh', ['-c', 'exec 3<>"$1"; echo open; exec cat', 'sh', path], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  await once(child.stdout, 'data');
  const exited = once(child, 'exit');
  return {
    child,
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await exited;
    },
  };
}
