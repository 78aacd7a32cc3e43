// The expected result differs between the rows of the tables.
/* oxlint-disable vitest/no-conditional-expect, vitest/expect-expect, unicorn/consistent-function-scoping */
/**
 * A copy of every kind of source to every kind of destination, ended in every way, while a guest writes: the
 * destination's bytes, QEMU's graph, the files and the outcome are what the contract says.
 */
import { existsSync } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  DestinationContent,
  ImageFormat,
  type Job,
  Job_State,
  JobKind,
  OnReady,
} from '../../generated/blockjob/v1/job.ts';
import {
  ChainTemplate,
  expectClean,
  expectWell,
  GuestDisk,
  graphOf,
  hashOf,
  journalEntries,
  monitorIn,
  present,
} from '../support/checks.ts';
import { needs } from '../support/means.ts';
import {
  type Bus,
  type ChainImage,
  type ImageFormat as Format,
  imageInfo,
  type Qemu,
  type Style,
  startQemu,
  testDir,
} from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1 << 20;
/** A low limit, so that no copy of these tests becomes READY before the limit is raised. */
const SLOW = 64n * 1024n;

const STYLES: readonly Style[] = ['blockdev', 'drive'];
const SHAPES = {
  'qcow2 chain of 3': ['qcow2', 'qcow2', 'qcow2'],
  'single qcow2': ['qcow2'],
  raw: ['raw'],
} as const satisfies Record<string, readonly Format[]>;
const DESTINATIONS = ['qcow2', 'raw', 'default'] as const;
const ENDINGS = ['pivot', 'abort before READY', 'abort after READY', 'FINISH'] as const;
const BUSES: readonly Bus[] = ['virtio-blk', 'virtio-scsi', 'nvme', 'ide'];
const FORMATS = {
  qcow2: ImageFormat.IMAGE_FORMAT_QCOW2,
  raw: ImageFormat.IMAGE_FORMAT_RAW,
  default: ImageFormat.IMAGE_FORMAT_UNSPECIFIED,
};

type Shape = keyof typeof SHAPES;

interface Case {
  readonly style: Style;
  readonly shape: Shape;
  readonly destination: (typeof DESTINATIONS)[number];
  readonly ending: (typeof ENDINGS)[number];
  readonly bus: Bus;
}

const SHAPE_NAMES = Object.keys(SHAPES) as Shape[];

/** Each ending meets each bus. */
const CASES: readonly Case[] = STYLES.flatMap((style, s) =>
  SHAPE_NAMES.flatMap((shape, h) =>
    DESTINATIONS.flatMap((destination, d) =>
      ENDINGS.map((ending): Case => {
        const bus = present(BUSES[(s + h + d) % BUSES.length]);
        return { style, shape, destination, ending, bus };
      }),
    ),
  ),
);

const held = new AsyncDisposableStack();
let service: Service;
let stateFolder: string;
let sockets: string;
const templates = new Map<Shape, ChainTemplate>();
let count = 0;

describe.skipIf(needs('qemu'))('copies', () => {
  beforeAll(async () => {
    const { path } = held.use(await testDir());
    stateFolder = join(path, 'state');
    sockets = held.use(await testDir('bj-qmp-')).path;
    service = held.use(await Service.start({ dir: path, qmpDir: sockets, allow: ['/tmp', path] }));
    for (const [shape, formats] of Object.entries(SHAPES)) {
      const template = await ChainTemplate.make(path, shape.replaceAll(' ', '-'), formats, 8 * MIB + 3 * 512);
      templates.set(shape as Shape, template);
    }
  });
  afterAll(async () => {
    try {
      if (service !== undefined) expectWell(service);
    } finally {
      await held.disposeAsync();
    }
  });

  test('the table has every combination, and each ending on each bus', () => {
    expect(CASES).toHaveLength(72);
    expect(new Set(CASES.map(({ ending, bus }) => `${ending} ${bus}`)).size).toBe(16);
  });

  test.each(CASES)('-$style, $shape to $destination, $ending ($bus)', async (row) => {
    const { style, shape, ending, bus } = row;
    await using dir = await testDir();
    const chain = await present(templates.get(shape)).copyTo(dir.path);
    const top = present(chain.at(-1));
    await using qemu = await aQemu(style, bus, chain);
    const guest = await GuestDisk.of(qemu.admin, 'disk0', top, dir.path);
    const before = await graphOf(qemu.admin);
    const lower = await Promise.all(chain.slice(0, -1).map(({ path }) => hashOf(path)));
    const path = join(dir.path, 'copy');
    const format = row.destination === 'default' ? top.format : row.destination;

    await guest.write(0);
    const started = await service.startCopy({
      disk: { domain: qemu.name, disk: 'disk0' },
      destination: { target: { $case: 'file', value: path }, format: FORMATS[row.destination] },
      bandwidthBytesPerSecond: SLOW,
      onReady: ending === 'FINISH' ? OnReady.ON_READY_FINISH : OnReady.ON_READY_HOLD,
    });
    expect(started).toMatchObject({
      state: Job_State.STATE_RUNNING,
      kind: JobKind.JOB_KIND_COPY,
      disk: { domain: qemu.name, disk: 'disk0' },
      domainUuid: qemu.uuid,
      sourcePath: top.path,
      destination: { target: { value: path }, format: FORMATS[format] },
      bandwidthBytesPerSecond: SLOW,
      outcome: {
        guestWritesTo: top.path,
        destinationContent: DestinationContent.DESTINATION_CONTENT_PARTIAL,
        asOf: undefined,
        safeToDelete: [],
        destinationRemoved: false,
      },
    });
    const { id } = started;
    await guest.write(1);
    expect((await service.getInfo(id)).state).toBe(Job_State.STATE_RUNNING);

    const asked = new Date();
    const job = await end(qemu, guest, id, ending);
    const entries = await journalEntries(stateFolder, id, job.revision);
    expect(entries[0]?.entry).toBe('accepted');
    expect(entries.at(-1)?.entry).toBe('ended');
    expect(await service.getInfo(id)).toEqual(job);
    expect((await service.getDomain(qemu.name)).disks[0]?.job).toBeUndefined();
    expect(await qemu.admin.execute('query-status')).toMatchObject({ status: 'running' });
    const after = await graphOf(qemu.admin);
    const [device = ''] = Object.keys(before.devices);

    if (ending === 'pivot') {
      expectOutcome(job, {
        state: Job_State.STATE_COMPLETED,
        guestWritesTo: path,
        content: DestinationContent.DESTINATION_CONTENT_COMPLETE,
        removed: false,
      });
      expect(job.outcome?.asOf).toBeUndefined();
      expect(job.outcome?.safeToDelete).toMatchObject([{ path: top.path }]);
      expect(job.outcome?.safeToDelete[0]?.warning).not.toBe('');
      // A pivot of an NVMe disk holds the guest for a moment, and only that one does.
      const holds = entries.map(({ entry }) => entry).filter((entry) => entry.startsWith('guest-'));
      expect(holds).toEqual(bus === 'nvme' ? ['guest-held', 'guest-released'] : []);
      // The device is on the copy, and nothing of the source is open any more.
      expectClean(after, id, [id, `${id}-file`]);
      expect(after.devices).toEqual({ [device]: id });
      expect(after.nodes).toEqual([`${id} ${format} ${path}`, `${id}-file file ${path}`]);
      expect((await qemu.admin.block('disk0')).inserted?.file).toBe(path);

      await qemu.admin.execute('stop');
      await guest.expectIn(path, format, { live: true });
      await guest.expectIn(top.path, top.format);
      const old = await Promise.all(chain.map((image) => hashOf(image.path)));
      await qemu.admin.execute('cont');
      await guest.write(3);
      await qemu.admin.hmpQemuIo('disk0', 'flush');
      await qemu[Symbol.asyncDispose]();
      expect(await Promise.all(chain.map((image) => hashOf(image.path)))).toEqual(old);
      await guest.expectNotIn(top.path, top.format);
      await guest.expectIn(path, format);
    } else {
      const complete = ending !== 'abort before READY';
      expectOutcome(job, {
        state: ending === 'FINISH' ? Job_State.STATE_COMPLETED : Job_State.STATE_CANCELLED,
        guestWritesTo: top.path,
        content: complete
          ? DestinationContent.DESTINATION_CONTENT_COMPLETE
          : DestinationContent.DESTINATION_CONTENT_PARTIAL,
        removed: !complete,
      });
      expect(job.outcome?.safeToDelete).toEqual([]);
      expectClean(after, id);
      expect(after).toEqual(before);
      expect(existsSync(path)).toBe(complete);
      await qemu.admin.execute('stop');
      await guest.expectIn(top.path, top.format, { live: true });
      if (complete) {
        const asOf = present(job.outcome?.asOf).getTime();
        expect(asOf).toBeGreaterThanOrEqual(
          Math.max(present(job.readyTime).getTime(), ending === 'FINISH' ? 0 : asked.getTime()),
        );
        expect(asOf).toBeLessThanOrEqual(present(job.endTime).getTime());
        await guest.expectIn(path, format);
        // The guest continues, and the copy stays unchanged.
        const copied = await hashOf(path);
        await qemu.admin.execute('cont');
        await guest.write(3);
        expect(await hashOf(path)).toBe(copied);
        await guest.expectNotIn(path, format);
      } else {
        expect(job.outcome?.asOf).toBeUndefined();
        expect(job.readyTime).toBeUndefined();
        await qemu.admin.execute('cont');
        await guest.write(3);
      }
      await qemu[Symbol.asyncDispose]();
      await guest.expectIn(top.path, top.format);
    }

    if (existsSync(path)) {
      const info = await imageInfo(path, format);
      expect(info).toMatchObject({ format });
      expect(info).not.toHaveProperty('backing-filename');
      expect((await stat(path)).mode & 0o777).toBe((await stat(top.path)).mode & 0o777);
    }
    expect(await Promise.all(chain.slice(0, -1).map((image) => hashOf(image.path)))).toEqual(lower);
  });

  interface Size {
    readonly format: Format;
    readonly bytes: number;
    /** As a guest sees it. */
    readonly shown: number;
  }
  const SIZES: readonly Size[] = [
    { format: 'qcow2', bytes: MIB + 512, shown: MIB + 512 },
    { format: 'raw', bytes: MIB + 512, shown: MIB + 512 },
    { format: 'qcow2', bytes: 512, shown: 512 },
    { format: 'raw', bytes: 1000, shown: 1024 },
    { format: 'raw', bytes: 3 * 512, shown: 3 * 512 },
    { format: 'raw', bytes: 0, shown: 0 },
  ];
  const SIZE_CASES = SIZES.flatMap((size, index) =>
    (['qcow2', 'raw'] as const).map((destination, d) => ({
      ...size,
      destination,
      style: present(STYLES[(index + d) % 2]),
    })),
  );

  test.each(SIZE_CASES)('a $format disk of $bytes bytes to $destination, pivot (-$style)', async (row) => {
    await using dir = await testDir();
    const template = await ChainTemplate.make(dir.path, 'template', [row.format], row.bytes);
    const chain = await template.copyTo(await subfolder(dir.path));
    const top = present(chain.at(-1));
    await using qemu = await aQemu(row.style, 'virtio-blk', chain);
    const guest = await GuestDisk.of(qemu.admin, 'disk0', top, dir.path);
    expect(guest.sizeBytes).toBe(row.shown);
    await guest.write(0);
    const path = join(dir.path, 'copy');
    const { id } = await service.startCopy({
      disk: { domain: qemu.name, disk: 'disk0' },
      destination: { target: { $case: 'file', value: path }, format: FORMATS[row.destination] },
    });
    await service.until(id, 'STATE_READY');
    await guest.write(1);
    const job = await service.abort({ job: { name: { $case: 'jobId', value: id } }, pivot: true });
    expectOutcome(job, {
      state: Job_State.STATE_COMPLETED,
      guestWritesTo: path,
      content: DestinationContent.DESTINATION_CONTENT_COMPLETE,
      removed: false,
    });
    expect(job.progress).toMatchObject({ percent: 100 });
    expectClean(await graphOf(qemu.admin), id, [id, `${id}-file`]);
    expect((await qemu.admin.block('disk0')).inserted?.image['virtual-size']).toBe(row.shown);
    const old = await hashOf(top.path);
    await guest.write(2);
    await qemu[Symbol.asyncDispose]();
    expect(await hashOf(top.path)).toBe(old);
    await guest.expectIn(path, row.destination);
    if (row.destination === 'raw') expect((await stat(path)).size).toBe(row.shown);
  });

  test('copies of copies, one of them into a file of zero length', async () => {
    await using dir = await testDir();
    const chain = await present(templates.get('qcow2 chain of 3')).copyTo(dir.path);
    await using qemu = await aQemu('blockdev', 'virtio-scsi', chain);
    let on = present(chain.at(-1));
    const guest = await GuestDisk.of(qemu.admin, 'disk0', on, dir.path);
    await writeFile(join(dir.path, 'two'), '');
    for (const [round, name] of ['one', 'two', 'three'].entries()) {
      const path = join(dir.path, name);
      await guest.write(round);
      const { id, sourcePath } = await service.startCopy({
        disk: { domain: qemu.name, disk: 'disk0' },
        destination: { target: { $case: 'file', value: path } },
        onReady: OnReady.ON_READY_PIVOT,
      });
      expect(sourcePath).toBe(on.path);
      await service.until(id, 'STATE_COMPLETED');
      expectClean(await graphOf(qemu.admin), id, [id, `${id}-file`]);
      on = { path, format: 'qcow2' };
    }
    await guest.write(3);
    await qemu[Symbol.asyncDispose]();
    await guest.expectIn(on.path, on.format);
  });

  test.each(['qcow2', 'raw'] as const)(
    'a file of zero length is not removed, but is empty again: abort before READY, %s',
    async (format) => {
      await using dir = await testDir();
      const chain = await present(templates.get('single qcow2')).copyTo(dir.path);
      await using qemu = await aQemu('drive', 'ide', chain);
      const path = join(dir.path, 'mine');
      await writeFile(path, '', { mode: 0o640 });
      const before = await stat(path);
      const { id } = await service.startCopy({
        disk: { domain: qemu.name, disk: 'disk0' },
        destination: { target: { $case: 'file', value: path }, format: FORMATS[format] },
        bandwidthBytesPerSecond: SLOW,
      });
      const job = await service.abort({ job: { name: { $case: 'jobId', value: id } } });
      expect(job.state).toBe(Job_State.STATE_CANCELLED);
      expect(await stat(path)).toMatchObject({ ino: before.ino, mode: before.mode, size: 0 });
      // It made no file, so it removed none; and a file that it did not make is not safe to delete.
      expect(job.outcome).toMatchObject({ destinationRemoved: false, safeToDelete: [] });
    },
  );
});

async function aQemu(style: Style, bus: Bus, chain: readonly ChainImage[]): Promise<Qemu> {
  count += 1;
  const name = `vm${count}`;
  const disks = [{ id: 'disk0', bus, chain }];
  await using stack = new AsyncDisposableStack();
  const qemu = stack.use(await startQemu({ style, name, disks, extraArgs: monitorIn(sockets, name) }));
  await service.domainUp(name);
  stack.move();
  return qemu;
}

/** Ends the copy as the row says, and returns the job from the answer, or from the last event. */
async function end(qemu: Qemu, guest: GuestDisk, id: string, ending: Case['ending']): Promise<Job> {
  const job = { name: { $case: 'jobId', value: id } } as const;
  const letGo = (): Promise<unknown> => qemu.admin.execute('block-job-set-speed', { device: id, speed: 0 });
  switch (ending) {
    case 'abort before READY':
      return await service.abort({ job });
    case 'FINISH':
      await letGo();
      return present((await service.until(id, 'STATE_COMPLETED')).job);
    case 'pivot':
    case 'abort after READY': {
      await letGo();
      const { job: ready } = await service.until(id, 'STATE_READY');
      expect(ready).toMatchObject({
        outcome: { destinationContent: DestinationContent.DESTINATION_CONTENT_MIRRORED, asOf: undefined },
      });
      await guest.write(2);
      return await service.abort({ job, pivot: ending === 'pivot' });
    }
  }
}

function expectOutcome(
  job: Job,
  expected: {
    readonly state: Job_State;
    readonly guestWritesTo: string;
    readonly content: DestinationContent;
    readonly removed: boolean;
  },
): void {
  expect(job.error).toBeUndefined();
  expect(job.endTime).toBeInstanceOf(Date);
  expect({ state: job.state, outcome: job.outcome }).toMatchObject({
    state: expected.state,
    outcome: {
      guestWritesTo: expected.guestWritesTo,
      nextStartPath: expected.guestWritesTo,
      destinationContent: expected.content,
      destinationRemoved: expected.removed,
    },
  });
  expect(job.outcome?.evidence.length).toBeGreaterThan(0);
}

async function subfolder(folder: string): Promise<string> {
  const path = join(folder, 'source');
  await mkdir(path);
  return path;
}
