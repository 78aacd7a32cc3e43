/** The QEMUs and images of the tests have the properties that the other tests expect. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { beginToMake, whenMade } from '../support/meanwhile.ts';
import {
  type Bus,
  compareImages,
  type DiskSpec,
  type ImageFormat,
  imageInfo,
  isRunning,
  makeChain,
  qdevOf,
  qemuImgCheck,
  run,
  type Style,
  startQemu,
  testDir,
} from '../support/real-qemu/qemu.ts';
import { stop } from '../support/real-qemu/while-stopped.ts';

const STYLES: readonly Style[] = ['blockdev', 'drive'];
const BUSES: readonly Bus[] = ['virtio-blk', 'virtio-scsi', 'nvme', 'ide'];
const NODES = ['vd0-0', 'vd0-0-file', 'vd0-1', 'vd0-1-file', 'vd0-2', 'vd0-2-file'];
const MIB = 1 << 20;

describe.skipIf(needs('qemu'))('QEMU without a guest', { timeout: 60_000 }, () => {
  describe.each(STYLES)('style %s', (style) => {
    test.each(BUSES)('bus %s: a write through the device is in the image', async (bus) => {
      await using dir = await testDir();
      const chain = await makeChain(dir.path, { formats: ['raw', 'qcow2', 'qcow2'], sizeBytes: 8 * MIB });
      const top = chain.at(-1)?.path ?? '';
      const disk: DiskSpec = { id: 'vd0', bus, chain };
      {
        await using qemu = await startQemu({ style, name: 'a, b', disks: [disk] });
        expect(await qemu.admin.execute('query-name')).toEqual({ name: 'a, b' });
        expect(await qemu.admin.execute('query-uuid')).toEqual({ UUID: qemu.uuid });
        const block = await qemu.admin.block('vd0');
        expect(block.qdev).toBe(qdevOf(disk));
        expect(block.device).toBe(style === 'drive' ? 'drive-vd0' : '');
        expect(block.inserted?.image['virtual-size']).toBe(8 * MIB);
        const nodes = await qemu.admin.execute<{ 'node-name': string }[]>('query-named-block-nodes');
        const named = nodes.map((node) => node['node-name']).filter((name) => !name.startsWith('#'));
        expect(new Set(named)).toEqual(new Set(style === 'blockdev' ? NODES : []));
        await qemu.admin.hmpQemuIo('vd0', 'write -P 0xaa 5M 4k');
        await qemu.admin.hmpQemuIo(style === 'drive' ? 'drive-vd0' : qdevOf(disk), 'write -P 0xbb 6M 512');
        await qemu.admin.hmpQemuIo('vd0', 'read -P 0xaa 5M 4k');
        await qemu.admin.hmpQemuIo('vd0', 'flush');
      }
      const reads = ['-c', 'read -P 0xaa 5M 4k', '-c', 'read -P 0xbb 6M 512'];
      await expect(run('qemu-io', ['-r', '-f', 'qcow2', ...reads, top])).resolves.toBeDefined();
      expect(await qemuImgCheck(top)).toMatchObject({ ok: true });
    });

    test('several disks, an empty CD drive, a disk of no size and one of an odd size', async () => {
      await using dir = await testDir();
      const one = await makeChain(dir.path, { formats: ['qcow2'], sizeBytes: MIB, prefix: 'one' });
      const none = await makeChain(dir.path, { formats: ['raw'], sizeBytes: 0, prefix: 'none' });
      const odd = await makeChain(dir.path, { formats: ['raw'], sizeBytes: 1000, prefix: 'odd' });
      await using qemu = await startQemu({
        style,
        disks: [
          { id: 'cd0', empty: true },
          { id: 'hd0', bus: 'ide', chain: one },
          { id: 'none0', bus: 'virtio-blk', chain: none },
          { id: 'odd0', bus: 'virtio-scsi', chain: odd },
        ],
      });
      expect(await qemu.admin.block('cd0')).not.toHaveProperty('inserted');
      expect((await qemu.admin.block('none0')).inserted?.image['virtual-size']).toBe(0);
      expect((await qemu.admin.block('odd0')).inserted?.image['virtual-size']).toBe(1024);
      await qemu.admin.hmpQemuIo('hd0', 'write -P 1 0 64k');
      await expect(qemu.admin.hmpQemuIo('cd0', 'read 0 512')).rejects.toThrow('No medium found');
    });
  });

  test('a qemu-io command that fails is an error', async () => {
    await using dir = await testDir();
    const chain = await makeChain(dir.path, { formats: ['raw'], sizeBytes: MIB });
    await using qemu = await startQemu({
      style: 'blockdev',
      disks: [{ id: 'vd0', bus: 'virtio-blk', chain }],
    });
    const io = (target: string, command: string): Promise<string> => qemu.admin.hmpQemuIo(target, command);
    await io('vd0', 'write -P 7 0 4k');
    await expect(io('vd0', 'read -P 8 0 4k')).rejects.toThrow('Pattern verification failed');
    await expect(io('vd0', 'write -P 7 1M 4k')).rejects.toThrow('write failed');
    await expect(io('vd0', 'wirte -P 7 0 4k')).rejects.toThrow('not found');
    await expect(io('vd1', 'write -P 7 0 4k')).rejects.toThrow('no device or drive');
    await expect(qemu.admin.execute('no-such-command')).rejects.toThrow('no-such-command: CommandNotFound');
  });

  test('QEMU and its directory are gone after dispose, also when QEMU hangs', async () => {
    for (const hang of [false, true]) {
      const qemu = await startQemu({ style: 'blockdev', disks: [] });
      expect(isRunning(qemu.pid)).toBe(true);
      if (hang) {
        await stop(qemu.pid);
      }
      await qemu[Symbol.asyncDispose]();
      expect(isRunning(qemu.pid)).toBe(false);
      expect(await qemu.exited).toEqual(hang ? { code: null, signal: 'SIGKILL' } : { code: 0, signal: null });
      await expect(open(qemu.dir)).rejects.toThrow('ENOENT');
    }
  });

  test('a QEMU that crashes fails the test that holds it', async () => {
    const qemu = await startQemu({ style: 'blockdev', disks: [] });
    process.kill(qemu.pid, 'SIGABRT');
    await qemu.exited;
    await expect(qemu[Symbol.asyncDispose]()).rejects.toThrow('QEMU has crashed (SIGABRT)');
  });

  test('a QEMU that cannot start says why', async () => {
    const chain = [{ format: 'raw' as const, path: '/nonexistent.raw' }];
    const starting = startQemu({ style: 'blockdev', disks: [{ id: 'vd0', bus: 'virtio-blk', chain }] });
    await expect(starting).rejects.toThrow(/did not start \(1\): .*No such file/);
  });

  const shapes: { formats: ImageFormat[]; sizeBytes: number }[] = [
    { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: 64 * MIB },
    { formats: ['raw', 'qcow2', 'qcow2'], sizeBytes: 5 * MIB + 512 },
    { formats: ['qcow2', 'qcow2'], sizeBytes: 512 },
    { formats: ['raw'], sizeBytes: 1_000_001 },
    { formats: ['raw'], sizeBytes: 3 },
  ];
  test.each(shapes)(
    'a chain $formats of $sizeBytes bytes: equal when flattened, unequal after one byte',
    async (shape) => {
      await using dir = await testDir();
      const chain = await makeChain(dir.path, shape);
      const top = chain.at(-1) ?? { path: '', format: 'raw' };
      const flat = join(dir.path, 'flat.raw');
      await run('qemu-img', ['convert', '-f', top.format, '-O', 'raw', top.path, flat]);
      expect(await compareImages(top.path, top.format, flat, 'raw')).toMatchObject({ identical: true });
      const sectors = Math.ceil(shape.sizeBytes / 512);
      expect((await imageInfo(top.path, top.format))['virtual-size']).toBe(sectors * 512);

      const at = Math.floor(shape.sizeBytes / 2);
      await using file = await open(flat, 'r+');
      const { buffer } = await file.read(Buffer.alloc(1), { position: at });
      await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), { position: at });
      const changed = await compareImages(top.path, top.format, flat, 'raw');
      expect(changed.identical).toBe(false);
      expect(changed.text).toMatch(/mismatch/);
    },
  );

  test('every layer of a chain matters, and there are holes and zeroes', async () => {
    await using dir = await testDir();
    const chain = await makeChain(dir.path, { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: 16 * MIB });
    const [base, snap1, snap2] = chain.map(({ path }) => path);
    const { stdout } = await run('qemu-img', ['map', '--output=json', '-f', 'qcow2', snap2 ?? '']);
    const map: { depth: number; data: boolean; zero: boolean; present: boolean }[] = JSON.parse(stdout);
    expect(new Set(map.filter(({ data }) => data).map(({ depth }) => depth))).toEqual(new Set([0, 1, 2]));
    expect(map.some(({ present }) => !present)).toBe(true);
    expect(map.some(({ zero, data, depth }) => zero && !data && depth === 0)).toBe(true);
    expect((await compareImages(base ?? '', 'qcow2', snap1 ?? '', 'qcow2')).identical).toBe(false);
    expect((await compareImages(snap1 ?? '', 'qcow2', snap2 ?? '', 'qcow2')).identical).toBe(false);

    const options = { formats: ['qcow2', 'qcow2', 'qcow2'] as const, sizeBytes: 16 * MIB };
    const same = await makeChain(dir.path, { ...options, prefix: 'same' });
    const other = await makeChain(dir.path, { ...options, prefix: 'other', pattern: 2 });
    const empty = await makeChain(dir.path, { ...options, prefix: 'empty', pattern: false, relative: true });
    const like = (chain_: typeof same): Promise<{ identical: boolean }> =>
      compareImages(snap2 ?? '', 'qcow2', chain_.at(-1)?.path ?? '', 'qcow2');
    expect(await like(same)).toMatchObject({ identical: true });
    expect(await like(other)).toMatchObject({ identical: false });
    expect(await like(empty)).toMatchObject({ identical: false });
    expect((await imageInfo(empty.at(-1)?.path ?? '', 'qcow2'))['backing-filename']).toBe('empty-snap1.qcow2');
  });
});

describe.skipIf(needs('qemu'))('a chain of images that was made before', () => {
  test.each([false, true])(
    'is copied unchanged, including holes, and does not depend on the first; relative: %s',
    async (relative) => {
      await using one = await testDir();
      await using other = await testDir();
      const options = { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: 4 * MIB, pattern: 77, relative } as const;
      const chains = [await makeChain(one.path, options), await makeChain(other.path, options)];
      const maps = chains.map(async (chain) =>
        (
          await Promise.all(
            chain.map(async ({ format, path }) => await run('qemu-img', ['map', '--output=json', '-f', format, path])),
          )
        ).map(({ stdout }) => stdout),
      );
      const [first, second] = await Promise.all(maps);
      expect(first).toHaveLength(3);
      expect(second).toEqual(first);
      const [, , top] = chains[1] ?? [];
      const { 'full-backing-filename': below } = await imageInfo(top?.path ?? '', 'qcow2');
      expect(below).toBe(join(other.path, 'snap1.qcow2'));
    },
  );
});

describe('preparations that run beside tests', () => {
  test('is waited for, by callers before it exists and after', async () => {
    const asked = Promise.withResolvers<string>();
    const end = await beginToMake('something', async () => await asked.promise);
    const early = whenMade('something');
    asked.resolve('made');
    expect([await early, await whenMade('something')]).toEqual(['made', 'made']);
    expect(await beginToMake('something', async () => await Promise.reject(new Error('twice')))).toBeUndefined();
    await end?.();
  });

  test('says why it could not be made', async () => {
    const end = await beginToMake('nothing', async () => await Promise.reject(new Error('no room')));
    await expect(whenMade('nothing')).rejects.toThrow('nothing: could not be made: Error: no room');
    await end?.();
    await expect(whenMade('anything')).rejects.toThrow('anything: not made in this run');
  });
});
