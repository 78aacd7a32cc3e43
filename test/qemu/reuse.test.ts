/**
 * Destinations that are there already: what of them becomes a part of the copy, and on whose word. Results are opened cold, by
 * their headers alone.
 */
import { copyFile, mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StartCopyRequest } from '../../generated/blockjob/v1/block_job_service.ts';
import { ImageFormat, type Job, Job_State } from '../../generated/blockjob/v1/job.ts';
import { type Machine, MIB, Site } from '../support/bench-qemu.ts';
import { byId, refused } from '../support/caller.ts';
import { graphOf, hashOf, present } from '../support/checks.ts';
import { LoopDevice } from '../support/loop-device.ts';
import { needs } from '../support/means.ts';
import { NbdServer } from '../support/nbd-server.ts';
import { run, type Style } from '../support/qemu.ts';

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

const words = (job: Job) => present(job.outcome).evidence.map(({ text }) => text);
const safe = (job: Job) => present(job.outcome).safeToDelete.map(({ path }) => path);

beforeAll(async () => {
  site = await Site.open(['/dev']);
});

afterAll(async () => {
  await site?.[Symbol.asyncDispose]();
});

describe.skipIf(needs('qemu')).each(STYLES)('a shallow copy into what is there, style %s', (style) => {
  test('what cannot show what the image below the active one shows is refused, and nothing is touched', async () => {
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
      expect(answer).toMatchObject({ reason: 'REUSED_UNLIKE', metadata: { path, backing: snap1(machine), why } });
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
      expect(answer.metadata['why']).toContain(backing);
    }
    expect(await graphOf(qemu.admin)).toEqual(before);
  });

  test('a header that takes the guest’s own image for another format is refused: by it the VM would start again', async () => {
    await using machine = await site.machine({ style });
    const path = await over(machine, snap1(machine), 'raw');
    const answer = await refused(site.service.startCopy(request(machine, path)));
    expect(answer).toMatchObject({ reason: 'FORMAT_UNKNOWN', metadata: { path: snap1(machine) } });
    expect(answer.message).toContain(`raw, says the header of ${path}: it is qcow2`);
  });

  test('one that holds nothing and is over the very image is proved: the old one may go', async () => {
    await using machine = await site.machine({ style });
    const path = await over(machine, snap1(machine));
    const plan = await site.service.planOf('startCopy', StartCopyRequest.fromPartial(request(machine, path)));
    const text = `${path} held nothing of its own before the copy began, and its backing file is ${snap1(machine)} itself`;
    expect(plan.notes).toEqual([text]);
    const job = await moved(machine, path);
    expect([safe(job), words(job).includes(text)]).toEqual([[machine.top.path], true]);
    await machine.qemu[Symbol.asyncDispose]();
    await run('rm', [machine.top.path]);
    await machine.guest.expectIn(path, 'qcow2');
  });

  test.each(['a wrong copy of the chain', 'the very image, and contents of its own', 'a flat raw image'])(
    'over %s it rests on the caller’s word, and the old image is not called safe to delete',
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
      const word = `that ${path} showed what ${snap1(machine)} shows, before the copy began, is the caller's word: it was not compared`;
      expect(words(job)).toContain(word);
      // Also when it is asked for later.
      expect(words(await site.service.getInfo(job.id))).toContain(word);
    },
  );
});

describe.skipIf(needs('qemu'))('a whole copy into what is there, full of something else', () => {
  /** Zeroes that are written down, zeroes that nobody wrote, and data. */
  const kinds = ['qcow2', 'qcow2 of small clusters', 'raw', 'device', 'qcow2 on a device', 'nbd'] as const;

  test.each(STYLES.flatMap((style) => kinds.map((kind) => ({ style, kind }))))(
    'has nothing of that: $kind, style $style',
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
      // Nothing of it was taken over, and nothing rests on anybody's word.
      expect(words(job).filter((text) => text.includes('word'))).toEqual([]);
      expect(safe(job)).toEqual([machine.top.path]);
      await guest.write(2);
      await machine.qemu[Symbol.asyncDispose]();
      await guest.expectIn(at, isQcow2 ? 'qcow2' : 'raw');
    },
  );
});
