/**
 * QEMU 7.2 loses count of the users of an image if a copy of its disk ends while `stop` flushes that disk. The next
 * `block-stream` there ends QEMU: `bdrv_replace_child_noperm: Assertion !child->frozen failed`. So no job begins there.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { eventually, monitorIn, present } from '../support/checks.ts';
import { HeldExport } from '../support/images/held-export.ts';
import { needs } from '../support/means.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import { type Admin, isRunning, makeChain, type Qemu, startQemu, testDir, within } from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';

const SIZE = 16 * MIB;
const HELD_MS = 10_000;
const DISK = 'disk1';
const BESIDE = 'disk0';
const COPY = 'another';

interface Storages {
  /** Holds a disk that `stop` flushes before the one that is copied. */
  readonly beside: HeldExport;
  /** Holds the active image of the copied disk. */
  readonly top: HeldExport;
  readonly target: HeldExport;
}

function nodeOf(name: string, file: unknown): readonly string[] {
  return ['-blockdev', JSON.stringify({ driver: 'raw', 'node-name': name, file })];
}

async function statusOf(admin: Admin): Promise<string | undefined> {
  const [job] = await admin.execute<{ status: string }[]>('query-jobs');
  return job?.status;
}

async function seen(admin: Admin, event: string, status?: string): Promise<void> {
  await eventually(`${event} ${status ?? ''}`, () =>
    admin.events.some((one) => one.event === event && (status === undefined || one.data['status'] === status))
      ? true
      : undefined,
  );
}

/** Another client cancels its copy, which is READY, and stops the guest: the copy ends while `stop` flushes its disk. */
async function endsDuringStop({ admin }: Qemu, { beside, top, target }: Storages): Promise<void> {
  await admin.execute('blockdev-add', { driver: 'raw', 'node-name': 'target', file: target.node });
  await admin.execute('blockdev-mirror', { 'job-id': COPY, device: 'top', target: 'target', sync: 'full' });
  await eventually('the copy is ready', async () => ((await statusOf(admin)) === 'ready' ? true : undefined));
  const last = target.next('WRITE');
  await admin.hmpQemuIo(BESIDE, 'write -P 1 0 4k');
  await admin.hmpQemuIo(DISK, 'write -P 2 0 4k');
  const write = await within(HELD_MS, 'the last write of the copy', last);
  await admin.execute('block-job-cancel', { device: COPY });
  const flushed = beside.next('FLUSH');
  const stopped = admin.execute('stop');
  // QEMU has said so, and waits for everything under way before it flushes.
  await seen(admin, 'STOP');
  const finished = target.next('FLUSH');
  write.grant();
  // It flushes the disk beside. The copy is complete, and flushes its target.
  const [flush, final] = await within(HELD_MS, 'two flushes', Promise.all([flushed, finished]));
  // It flushes the copied disk. The copy ends as soon as that flush does.
  const flushedToo = top.next('FLUSH');
  flush.grant();
  const own = await within(HELD_MS, 'the flush of the copied disk', flushedToo);
  final.grant();
  await seen(admin, 'JOB_STATUS_CHANGE', 'pending');
  own.grant();
  await stopped;
  await eventually('the copy is gone', async () => ((await statusOf(admin)) === undefined ? true : undefined));
  await admin.execute('cont');
}

async function hasLostCount(admin: Admin): Promise<boolean> {
  const nodes = await admin.execute<{ drv: string }[]>('query-named-block-nodes', { flat: true });
  return nodes.some(({ drv }) => drv === 'mirror_top');
}

test.skipIf(needs('qemu'))(
  'no job begins on a disk whose users QEMU has lost count of, and the guest goes on',
  async ({ skip }) => {
    await using site = await Site.open();
    await using dir = await testDir();
    const chain = await makeChain(dir.path, { formats: ['raw', 'qcow2'], sizeBytes: SIZE });
    const [base, over] = chain.map(({ path }) => path);
    await using beside = await HeldExport.at(join(dir.path, 'beside.sock'), SIZE);
    await using top = await HeldExport.at(join(dir.path, 'top.sock'), 2 * SIZE, await readFile(present(over)));
    await using target = await HeldExport.at(join(dir.path, 'target.sock'), SIZE);
    const domain = 'lost';
    await using qemu = await startQemu({
      style: 'blockdev',
      name: domain,
      disks: [],
      extraArgs: [
        ...nodeOf('beside', beside.node),
        ...nodeOf('base', { driver: 'file', filename: base }),
        '-device',
        `virtio-blk-pci,id=${BESIDE},drive=beside`,
        '-device',
        `virtio-blk-pci,id=${DISK},drive=base`,
        ...monitorIn(site.sockets, domain),
      ],
    });
    const { admin } = qemu;
    const { qemu: version } = await admin.execute<{ qemu: { major: number; minor: number } }>('query-version');
    skip(version.major !== 7 || version.minor !== 2, 'only QEMU 7.2 loses count');
    await site.service.domainUp(domain);
    // An image that only the disk uses: QEMU closes it as soon as it counts no user.
    await admin.execute('blockdev-snapshot-sync', {
      'node-name': 'base',
      'snapshot-file': `nbd+unix:///?socket=${top.path}`,
      'snapshot-node-name': 'top',
      format: 'qcow2',
      mode: 'existing',
    });
    await endsDuringStop(qemu, { beside, top, target });
    expect(await hasLostCount(admin)).toBe(true);
    const disk = { domain, disk: DISK };
    const unsuitable = { reason: 'IMAGE_UNSUITABLE', metadata: { kind: 'LOST_COUNT', node: 'top' } };
    const destination = { target: { $case: 'file', value: join(dir.path, 'copy') } } as const;
    expect(await refused(site.service.startCopy({ disk, destination }))).toMatchObject(unsuitable);
    expect(await refused(site.service.rebase({ disk }))).toMatchObject(unsuitable);
    expect(await refused(site.service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] }))).toMatchObject(
      unsuitable,
    );
    expect(isRunning(qemu.pid)).toBe(true);
    expect(await admin.execute('query-status')).toMatchObject({ status: 'running' });
    // At `quit` it would abort.
    process.kill(qemu.pid, 'SIGKILL');
    await qemu.exited;
  },
);
