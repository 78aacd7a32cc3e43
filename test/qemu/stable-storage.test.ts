/**
 * The result of an ended job is on stable storage: whatever dies, and when, the disk has the data that the guest knew,
 * and no image is missing. QEMU is killed, or the power is cut, at each command that the end of a job consists of.
 */
import { existsSync } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Started } from '../../src/core/block-jobs.ts';
import type { JobView } from '../../src/core/job/job-view.ts';
import { flushesOf } from '../../src/core/qemu/flush.ts';
import { present } from '../support/checks.ts';
import { jobsOf } from '../support/fake-qemu/courses.ts';
import { QmpGate, type Shut } from '../support/fake-qemu/qmp-gate.ts';
import { FragileFileSystem } from '../support/images/power-cut.ts';
import { needs } from '../support/means.ts';
import {
  type ChainImage,
  compareImages,
  imageInfo,
  makeChain,
  type Qemu,
  type QemuOptions,
  run,
  startQemu,
  type TestDir,
  testDir,
  within,
} from '../support/real-qemu/qemu.ts';
import { copyTo, PATIENT, TestAgent } from '../support/service/agent.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 8 * MIB;
const LIMIT_MS = 60_000;
const DISK = { domain: 'vm1', disk: 'disk0' };
const PLAIN = { disk: DISK, base: '', bandwidth: 0n, requestId: '', validateOnly: false, planEtag: '', accept: [] };

type Kind = 'pull' | 'commit';
type Job = JobView['job'];

/** A VM with a chain of three images, and an agent whose connection to QEMU can be shut at a command. */
interface World extends AsyncDisposable {
  readonly chain: readonly ChainImage[];
  readonly top: string;
  /** The expected contents of the guest's disk. */
  readonly expected: string;
  readonly qemu: Qemu;
  readonly agent: TestAgent;
  readonly gate: QmpGate;
  /** The service dies, and its QEMU. */
  readonly die: () => Promise<void>;
  /** Another service takes over. */
  readonly again: () => Promise<Job>;
}

interface WorldOptions {
  /** Journals and sockets: the host's own file system. */
  readonly host: string;
  readonly images: string;
  readonly at?: Shut;
  /** Instead of a plain disk. */
  readonly disk?: (chain: readonly ChainImage[]) => Pick<QemuOptions, 'disks' | 'extraArgs'>;
}

async function begin({ host, images, at, disk }: WorldOptions): Promise<World> {
  await using cleanUp = new AsyncDisposableStack();
  const chain = await makeChain(images, { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: SIZE_BYTES });
  const top = present(chain.at(-1)).path;
  const expected = join(host, 'expected.raw');
  await run('qemu-img', ['convert', '-O', 'raw', top, expected]);
  const plain = { disks: [{ id: 'disk0', bus: 'virtio-blk', chain }] } as const;
  const qemu = cleanUp.use(await startQemu({ style: 'blockdev', name: 'vm1', ...(disk?.(chain) ?? plain) }));
  const gate = cleanUp.use(await QmpGate.start(join(host, 'gate.sock'), qemu.qmpPath, at));
  const started = { dir: host, allow: [images] };
  const agents = cleanUp.use(new AsyncDisposableStack());
  const agent = agents.use(await TestAgent.start({ ...started, qmp: { vm1: join(host, 'gate.sock') } }));
  const running = cleanUp.move();
  return {
    chain,
    top,
    expected,
    qemu,
    agent,
    gate,
    die: async () => {
      gate.hangUp();
      await agents.disposeAsync();
      process.kill(qemu.pid, 'SIGKILL');
      await qemu.exited;
      await gate[Symbol.asyncDispose]();
    },
    again: async () => {
      await using next = await TestAgent.start({ ...started, qmp: {} });
      const [job] = await jobsOf(next);
      await within(LIMIT_MS, 'the end of the job', next.until(present(job).accepted.job));
      const [found] = await jobsOf(next);
      return present(found);
    },
    [Symbol.asyncDispose]: async () => await running.disposeAsync(),
  };
}

async function start(kind: Kind, { agent, chain }: Pick<World, 'agent' | 'chain'>): Promise<string> {
  const started: Started =
    kind === 'pull'
      ? await agent.agent.rebase({ ...PLAIN, flags: [], overcommit: false }, PATIENT)
      : await agent.agent.commit({ ...PLAIN, top: present(chain[1]).path, flags: ['DELETE'] }, PATIENT);
  if (!('job' in started)) throw new Error('a plan was not asked for');
  return started.job.accepted.job;
}

async function ended({ agent }: World, job: string): Promise<Job> {
  await within(LIMIT_MS, 'the end of the job', agent.until(job));
  const [found] = await jobsOf(agent);
  return present(found);
}

/** The disk is whole, with no QEMU there. */
async function expectDisk({ top, expected }: World): Promise<void> {
  expect(await compareImages(top, 'qcow2', expected, 'raw')).toMatchObject({ identical: true });
}

/** The image below the active one, as its header says; '' for none. */
async function below({ top }: World): Promise<string> {
  return (await imageInfo(top, 'qcow2'))['backing-filename'] ?? '';
}

/** The image below the active one after the job. */
function wanted(kind: Kind, { chain }: World): string {
  return kind === 'pull' ? '' : present(chain[0]).path;
}

const INSTANTS: readonly Shut[] = [
  { command: 'blockdev-reopen', nth: 1, when: 'before' },
  { command: 'blockdev-reopen', nth: 1, when: 'after' },
  { command: 'job-finalize', nth: 1, when: 'before' },
  { command: 'job-finalize', nth: 1, when: 'after' },
  { command: 'blockdev-reopen', nth: 2, when: 'before' },
  { command: 'blockdev-reopen', nth: 2, when: 'after' },
  { command: 'blockdev-del', nth: 1, when: 'before' },
  { command: 'blockdev-del', nth: 2, when: 'after' },
];
const ROWS = (['pull', 'commit'] as const).flatMap((kind) => INSTANTS.map((at) => ({ kind, at, ...at })));
const isDone = ({ command, nth, when }: Shut) =>
  command === 'blockdev-del' || (command === 'blockdev-reopen' ? nth > 1 : when === 'after');

/**
 * Whether the header is the new one then. A header that was written and not synced may have reached the disk by itself.
 */
function afterPowerCut(at: Shut): readonly boolean[] {
  if (at.command === 'blockdev-del') return [true];
  return isDone(at) ? [true, false] : [false];
}

describe.skipIf(needs('qemu'))('QEMU is killed', () => {
  let folder: TestDir;
  let count = 0;

  beforeAll(async () => {
    folder = await testDir('bj-stable-');
  });

  afterAll(async () => {
    await folder[Symbol.asyncDispose]();
  });

  test.each(ROWS)('at the end of a $kind, $when $command, number $nth: the disk is whole', async ({ kind, at }) => {
    count += 1;
    const host = join(folder.path, String(count));
    await mkdir(host);
    await using world = await begin({ host, images: host, at });
    await start(kind, world);
    await within(LIMIT_MS, 'that instant', world.gate.shut);
    await world.die();
    const job = await world.again();
    expect(job.state).toBe(isDone(at) ? 'COMPLETED' : 'FAILED');
    const isNew = (await below(world)) === wanted(kind, world);
    expect(isNew).toBe(isDone(at));
    await expectDisk(world);
  });
});

/** Images on storage whose power can be cut, and all other files elsewhere. */
async function fragile(stack: AsyncDisposableStack): Promise<{ host: string; images: string; fs: FragileFileSystem }> {
  const { path: host } = stack.use(await testDir('bj-power-'));
  const fs = stack.use(await FragileFileSystem.make(host, 96));
  return { host, images: fs.path, fs };
}

describe.skipIf(needs('qemu', 'power-cut'))('the power is cut', () => {
  test.each(ROWS)('at the end of a $kind, $when $command, number $nth: the disk is whole', async ({ kind, at }) => {
    await using stack = new AsyncDisposableStack();
    const { fs, ...where } = await fragile(stack);
    const world = stack.use(await begin({ ...where, at }));
    await fs.sync();
    await start(kind, world);
    await within(LIMIT_MS, 'that instant', world.gate.shut);
    await fs.cut();
    await world.die();
    await fs.restore();
    const job = await world.again();
    // The header may have reached the disk by itself, or not.
    const isNew = (await below(world)) === wanted(kind, world);
    expect(job.state).toBe(isNew ? 'COMPLETED' : 'FAILED');
    expect(afterPowerCut(at)).toContain(isNew);
    await expectDisk(world);
  });

  test.each(['pull', 'commit'] as const)('after a %s that is COMPLETED: nothing of it is lost', async (kind) => {
    await using stack = new AsyncDisposableStack();
    const { fs, ...where } = await fragile(stack);
    const world = stack.use(await begin(where));
    await fs.sync();
    expect(await ended(world, await start(kind, world))).toMatchObject({ state: 'COMPLETED', failure: undefined });
    await fs.cut();
    await world.die();
    await fs.restore();
    expect(await below(world)).toBe(wanted(kind, world));
    expect(existsSync(present(world.chain[1]).path)).toBe(kind === 'pull');
    await expectDisk(world);
  });

  test.each([
    ['FINISH', 'qcow2'],
    ['FINISH', 'raw'],
    ['PIVOT', 'qcow2'],
    ['PIVOT', 'raw'],
  ] as const)(
    'after a copy that ended by on_ready %s into a new %s file: the file exists, and is whole',
    async (onReady, format) => {
      await using stack = new AsyncDisposableStack();
      const { fs, ...where } = await fragile(stack);
      const world = stack.use(await begin(where));
      await fs.sync();
      const copy = join(fs.path, 'copy');
      const request = copyTo(copy, { disk: DISK, onReady, format: format === 'raw' ? 'RAW' : 'QCOW2' });
      const started = await world.agent.startCopy(request);
      const job = await ended(world, started.job.accepted.job);
      expect(job).toMatchObject({ state: 'COMPLETED', outcome: { destinationContent: 'COMPLETE' } });
      await fs.cut();
      await world.die();
      await fs.restore();
      expect(await compareImages(copy, format, world.expected, 'raw')).toMatchObject({ identical: true });
    },
  );

  test('after the pivot of an active commit that deletes the committed images', async () => {
    await using stack = new AsyncDisposableStack();
    const { fs, ...where } = await fragile(stack);
    const world = stack.use(await begin(where));
    await fs.sync();
    const { agent } = world.agent;
    const started = await agent.commit({ ...PLAIN, top: '', flags: ['ACTIVE', 'DELETE'] }, PATIENT);
    const job = 'job' in started ? started.job.accepted.job : '';
    await within(LIMIT_MS, 'READY', world.agent.until(job, 'READY'));
    const plain = { pivot: true, returnImmediately: false, force: false, pauseGuest: undefined, requestId: '' };
    await agent.abort({ job: { jobId: job }, ...plain }, PATIENT);
    expect(await ended(world, job)).toMatchObject({ state: 'COMPLETED' });
    await fs.cut();
    await world.die();
    await fs.restore();
    const [base, ...committed] = world.chain.map(({ path }) => path);
    expect(committed.map((path) => existsSync(path))).toEqual([false, false]);
    expect(await compareImages(present(base), 'qcow2', world.expected, 'raw')).toMatchObject({ identical: true });
  });
});

/** A node that cannot write these bytes of its file, or cannot flush it. */
function failing(node: string, path: string, rule: Readonly<Record<string, unknown>>): string[] {
  const file = { driver: 'file', 'node-name': `${node}-raw`, filename: path, 'auto-read-only': true };
  const error = { event: 'none', once: false, ...rule };
  const faulty = { driver: 'blkdebug', 'node-name': `${node}-file`, image: `${node}-raw`, 'inject-error': [error] };
  return ['-blockdev', JSON.stringify(file), '-blockdev', JSON.stringify(faulty)];
}

function image(node: string, backing: string | null, path?: string): string[] {
  const file = { driver: 'file', 'node-name': `${node}-file`, filename: path, 'auto-read-only': true };
  const readOnly = node !== 'disk0-2';
  const format = { driver: 'qcow2', 'node-name': node, file: `${node}-file`, backing, 'read-only': readOnly };
  const args = ['-blockdev', JSON.stringify(format)];
  return path === undefined ? args : ['-blockdev', JSON.stringify(file), ...args];
}

const DEVICE = ['-device', 'virtio-blk-pci,id=disk0,drive=disk0-2'];
const NO_SPACE = 28;
const IO_ERROR = 5;

/** The place of the table of an image's first clusters. */
async function tableAt(path: string): Promise<number> {
  await using file = await open(path, 'r');
  const word = async (position: number) => (await file.read(Buffer.alloc(8), 0, 8, position)).buffer.readBigUInt64BE();
  return Number((await word(Number(await word(40)))) & 0x00ff_ffff_ffff_fe00n);
}

describe.skipIf(needs('qemu'))('storage that cannot be flushed', () => {
  let folder: TestDir;

  beforeAll(async () => {
    folder = await testDir('bj-flush-');
  });

  afterAll(async () => {
    await folder[Symbol.asyncDispose]();
  });

  async function where(name: string): Promise<{ host: string; images: string }> {
    const host = join(folder.path, name);
    await mkdir(host);
    return { host, images: host };
  }

  test.each([
    ['pull', 'write', NO_SPACE, 'NO_SPACE'],
    ['commit', 'write', NO_SPACE, 'NO_SPACE'],
    ['commit', 'flush', IO_ERROR, 'STORAGE_FAILED'],
  ] as const)(
    'a %s whose data cannot be put on disk (%s, errno %i) is FAILED: %s, and the chain stays',
    async (kind, iotype, errno, reason) => {
      const { host, images } = await where(`${kind}-${iotype}`);
      // The bytes of the table are known only when a chain exists: a similar one is made first.
      await mkdir(join(host, 'like'));
      const like = await makeChain(join(host, 'like'), { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: SIZE_BYTES });
      const layer = kind === 'pull' ? 2 : 0;
      const sector = (await tableAt(present(like[layer]).path)) / 512;
      const rule = iotype === 'write' ? { iotype, errno, sector } : { iotype, errno };
      await using world = await begin({
        host,
        images,
        disk: (chain) => ({
          disks: [],
          extraArgs: [
            ...chain.flatMap(({ path }, index) => {
              const [node, backing] = [`disk0-${index}`, index === 0 ? null : `disk0-${index - 1}`];
              if (index !== layer) return image(node, backing, path);
              return [...failing(node, path, rule), ...image(node, backing)];
            }),
            ...DEVICE,
          ],
        }),
      });
      const before = await below(world);
      const job = await ended(world, await start(kind, world));
      expect(job).toMatchObject({ state: 'FAILED', failure: { reason }, outcome: { safeToDelete: [] } });
      expect(await below(world)).toBe(before);
      await world.die();
      await expectDisk(world);
    },
  );

  test('a commit whose header cannot be flushed is UNRESOLVED, and nothing is deleted', async () => {
    await using world = await begin({
      ...(await where('header')),
      disk: (chain) => ({
        disks: [],
        extraArgs: [
          ...image('disk0-0', null, present(chain[0]).path),
          ...image('disk0-1', 'disk0-0', present(chain[1]).path),
          ...failing('disk0-2', present(chain[2]).path, { iotype: 'flush', errno: IO_ERROR }),
          ...image('disk0-2', 'disk0-1'),
          ...DEVICE,
        ],
      }),
    });
    const job = await ended(world, await start('commit', world));
    expect(job).toMatchObject({
      state: 'UNRESOLVED',
      failure: { reason: 'NOT_ON_DISK' },
      outcome: { safeToDelete: [] },
    });
    expect(existsSync(present(world.chain[1]).path)).toBe(true);
    await world.die();
    await expectDisk(world);
  });
});

describe.skipIf(needs('qemu'))('a flush whose error is heard', () => {
  test.each(['blockdev', 'drive'] as const)(
    'is refused right after it, and changes nothing of the node: style %s',
    async (style) => {
      await using dir = await testDir('bj-flushes-');
      const chain = await makeChain(dir.path, { formats: ['qcow2', 'qcow2'], sizeBytes: MIB });
      const disks = [{ id: 'disk0', bus: 'virtio-blk', chain }] as const;
      await using qemu = await startQemu({ style, disks });
      const nodes = async () =>
        await qemu.admin.execute<{ 'node-name': string; drv: string }[]>('query-named-block-nodes');
      const before = await nodes();
      for (const { 'node-name': node } of before.filter(({ drv }) => drv === 'qcow2')) {
        await qemu.admin.hmpQemuIo('disk0', 'write -P 7 0 64k');
        const said: boolean[] = [];
        for (const { command, flushed } of flushesOf(node)) {
          const refusal = await qemu.admin.execute(command.execute, command.arguments).then(
            () => 'it was done',
            (error: unknown) => String(error).replace(/^.*?GenericError: /, ''),
          );
          said.push(flushed.test(refusal));
        }
        expect(said.filter(Boolean), `of ${node}`).toHaveLength(1);
      }
      // Written blocks are allocated; nothing else differs.
      const plain = (all: Awaited<ReturnType<typeof nodes>>) =>
        JSON.parse(JSON.stringify(all).replaceAll(/"actual-size": ?\d+/g, '"actual-size":0')) as unknown;
      expect(plain(await nodes())).toEqual(plain(before));
    },
  );
});
