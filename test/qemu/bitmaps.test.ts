/** Changed-block tracking survives a pivot: the persistent bitmaps of backup tools follow the disk. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CommitFlag } from '../../generated/blockjob/v1/block_job_service.ts';
import { ImageFormat, Job_State } from '../../generated/blockjob/v1/job.ts';
import { journalEntries, present } from '../support/checks.ts';
import { needs } from '../support/means.ts';
import { type Machine, Site } from '../support/real-qemu/bench-qemu.ts';
import { run } from '../support/real-qemu/qemu.ts';
import { byId } from '../support/service/caller.ts';

interface Bitmap {
  readonly name: string;
  readonly count: number;
  readonly granularity: number;
  readonly recording: boolean;
  readonly persistent: boolean;
}

async function bitmapsOf({ qemu }: Machine, node: string): Promise<readonly Bitmap[]> {
  const nodes = await qemu.admin.execute<{ 'node-name': string; 'dirty-bitmaps'?: Bitmap[] }[]>(
    'query-named-block-nodes',
    { flat: true },
  );
  const bitmaps = nodes.find((one) => one['node-name'] === node)?.['dirty-bitmaps'] ?? [];
  return bitmaps.filter(({ name }) => name !== undefined).toSorted((a, b) => a.name.localeCompare(b.name));
}

/** The 64 KiB blocks that a bitmap of an image marks, read in another way: an NBD client asks for the dirty blocks. */
async function dirtyBlocks(image: string, bitmap: string): Promise<ReadonlySet<number>> {
  const options = `driver=nbd,server.type=unix,server.path=${image}.sock,export=d`;
  const script = [
    `qemu-nbd --fork --pid-file '${image}.pid' -r -f qcow2 -B '${bitmap}' -x d -k '${image}.sock' '${image}'`,
    `qemu-img map --output=json --image-opts '${options},x-dirty-bitmap=qemu:dirty-bitmap:${bitmap}'`,
  ];
  const { stdout } = await run('sh', ['-ec', script.join('; ')]);
  await run('sh', ['-c', `kill "$(cat '${image}.pid')" 2>/dev/null; true`]);
  const extents = JSON.parse(stdout) as { start: number; length: number; data: boolean }[];
  const blocks = new Set<number>();
  // QEMU's client shows dirty blocks as blocks without data.
  for (const { start, length, data } of extents) {
    if (data) continue;
    for (let block = Math.floor(start / 65_536); block * 65_536 < start + length; block += 1) blocks.add(block);
  }
  return blocks;
}

describe.skipIf(needs('qemu'))('persistent bitmaps', () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });

  async function withBitmaps(): Promise<Machine> {
    const machine = await site.machine();
    const add = async (name: string, more: object) =>
      await machine.qemu.admin.execute('block-dirty-bitmap-add', { node: 'disk0-2', name, ...more });
    await add('daily', { persistent: true, granularity: 65_536 });
    await add('frozen', { persistent: true, granularity: 131_072 });
    await add('passing', { persistent: false });
    const write = async (at: string) => await machine.qemu.admin.hmpQemuIo('disk0', `write -P 1 ${at} 64k`);
    await write('0');
    await machine.qemu.admin.execute('block-dirty-bitmap-disable', { node: 'disk0-2', name: 'frozen' });
    await write('1M');
    return machine;
  }

  test.each([false, true])('follow the disk on pivot, shallow %s', async (shallow) => {
    await using machine = await withBitmaps();
    const { qemu, disk, dir } = machine;
    const path = join(dir, 'copy');
    const { id } = await site.service.startCopy({
      disk,
      destination: { target: { $case: 'file', value: path } },
      shallow,
    });
    await site.service.until(id, 'STATE_READY');
    await qemu.admin.hmpQemuIo('disk0', 'write -P 2 2M 64k');
    const job = await site.service.abort({ job: byId(id), pivot: true });
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    await qemu.admin.hmpQemuIo('disk0', 'write -P 3 3M 64k');
    expect(await bitmapsOf(machine, id)).toMatchObject([
      { name: 'daily', granularity: 65_536, recording: true, persistent: true },
      { name: 'frozen', granularity: 131_072, recording: false, persistent: true, count: 131_072 },
    ]);
    await qemu[Symbol.asyncDispose]();
    // In blocks of 64 KiB: the writes before, while READY, and after the pivot.
    const daily = await dirtyBlocks(path, 'daily');
    expect([0, 16, 32, 48].filter((block) => !daily.has(block))).toEqual([]);
    // And not everything: a bitmap that marks everything is useless.
    expect(daily.size).toBeLessThan(8);
    const entries = await journalEntries(site.stateFolder, id, job.revision);
    expect(entries.filter((entry) => 'step' in entry && entry.step === 'carry-bitmaps')).toHaveLength(2);
  });

  test('follow an active commit; stay without a pivot, and if the destination has none', async () => {
    await using machine = await withBitmaps();
    const { disk, dir } = machine;
    const start = async (format: ImageFormat) =>
      await site.service.startCopy({
        disk,
        destination: { target: { $case: 'file', value: join(dir, `copy-${format}`) }, format },
      });
    const copy = await start(ImageFormat.IMAGE_FORMAT_QCOW2);
    await site.service.until(copy.id, 'STATE_READY');
    await site.service.abort({ job: byId(copy.id) });
    expect((await bitmapsOf(machine, 'disk0-2')).map(({ name }) => name)).toEqual(['daily', 'frozen', 'passing']);
    const { id } = await site.service.commit({ disk, flags: [CommitFlag.COMMIT_FLAG_ACTIVE] });
    await site.service.until(id, 'STATE_READY');
    await site.service.abort({ job: byId(id), pivot: true });
    expect((await bitmapsOf(machine, 'disk0-0')).map(({ name }) => name)).toEqual(['daily', 'frozen']);
    const raw = await start(ImageFormat.IMAGE_FORMAT_RAW);
    await site.service.until(raw.id, 'STATE_READY');
    const job = await site.service.abort({ job: byId(raw.id), pivot: true });
    expect(job.state).toBe(Job_State.STATE_COMPLETED);
    expect(await bitmapsOf(machine, raw.id)).toEqual([]);
    expect(present(job.outcome).guestWritesTo).toBe(join(dir, 'copy-1'));
  });
});
