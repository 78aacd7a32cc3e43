/** The guest rig finds a loss, and only a loss. */
import { open } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { needs } from '../support/means.ts';
import { checkerSelfTest, GuestVm } from '../support/real-qemu/guest-vm.ts';
import { Admin, isRunning, run, type Style, testDir } from '../support/real-qemu/qemu.ts';

const BLOCK = 4096;

describe.skipIf(needs('qemu'))('check-disk', () => {
  test('finds every kind of loss', { timeout: 120_000 }, async () => {
    const lines = await checkerSelfTest();
    expect(lines.pop()).toBe('self-test: all caught');
    expect(lines.filter((line) => line.startsWith('ok '))).toHaveLength(33);
    expect(lines).toHaveLength(33);
  });
});

describe.skipIf(needs('guest'))('guest rig', { timeout: 240_000 }, () => {
  test.each<[Style, string]>([
    ['blockdev', 'id=1,chain=3,size=64M'],
    ['drive', 'id=1,fmt=raw,bus=scsi,size=64M'],
  ])('style %s, %s: a clean run passes, a planted loss is found', async (style, spec) => {
    await using vm = await GuestVm.start({
      disks: [spec, 'id=2,size=32M'],
      style,
      append: 'gw.mode=rand gw.bs=16 gw.vary=1 gw.mix=80:10:10 gw.rd=10',
    });
    await vm.work(1, 200);
    const marks = await vm.mark('half');
    expect([...marks.keys()]).toEqual([1, 2]);
    expect(marks.get(1)?.ops).toBeGreaterThan(0);
    await vm.work(2, 200);
    await vm.pause();
    const done = vm.acknowledged(1);
    expect(await vm.check(1, { live: true })).toMatchObject({ ok: true, lost: 0, acked_ops: done });
    expect(await vm.check(1, { live: true, until: 'M half ', allowNewer: true })).toMatchObject({ lost: 0 });
    expect((await vm.check(1, { live: true, until: 'M half ' })).lost).toBeGreaterThan(0);
    await vm.resume();
    await vm.work(1, 200);
    await vm.pause();
    await vm.stop();
    expect(await vm.exited).toBe(0);
    expect(vm.ioErrors()).toBe(0);
    for (const disk of [1, 2]) {
      expect(await vm.check(disk)).toMatchObject({ ok: true, lost: 0, guest_bad_reads: 0 });
    }

    const block = await vm.writtenBlock(1);
    const top = vm.images(1).at(-1) ?? { path: '', format: 'raw' };
    for (const [pattern, kind] of [
      ['0', 'missing'],
      ['0x55', 'garbage'],
    ] as const) {
      const write = `write -P ${pattern} ${block * BLOCK} ${BLOCK}`;
      await run('qemu-io', ['-f', top.format, '-c', write, top.path]);
      const result = await vm.check(1);
      expect(result).toMatchObject({ ok: false, lost: 1, [kind]: 1 });
      expect(result.text).toMatch(new RegExp(`^block ${block}: ${kind}: `));
    }
    expect(await vm.check(2)).toMatchObject({ ok: true });
  });

  test('a write that was acknowledged before a SIGKILL is on disk; a base without its overlays fails', async () => {
    await using vm = await GuestVm.start({
      disks: ['id=1,chain=2,size=64M'],
      append: 'gw.mode=rand gw.bs=64',
    });
    await vm.work(1, 500);
    await vm.kill();
    expect(await vm.exited).toBe(-9);
    expect(isRunning(vm.pid)).toBe(false);
    expect(await vm.check(1)).toMatchObject({ ok: true, lost: 0 });
    const base = vm.images(1)[0] ?? { path: '', format: 'raw' };
    const result = await vm.check(1, { image: base.path, format: base.format });
    expect(result.ok).toBe(false);
    expect(result.lost).toBeGreaterThan(500);
  });

  test('the guest is found by name and UUID, and ends with the test', async () => {
    const uuid = '6ba7b810-9dad-41d1-80b4-00c04fd430c8';
    const vms = [
      await GuestVm.start({ disks: ['id=1,size=16M'], name: 'web, 1', uuid }),
      await GuestVm.start({ disks: ['id=1,size=16M,fmt=raw'] }),
      await GuestVm.start({ disks: ['id=1,size=16M'], style: 'drive' }),
    ];
    try {
      expect(vms[0]).toMatchObject({ name: 'web, 1', uuid });
      expect(new Set(vms.map((vm) => vm.name)).size).toBe(3);
      expect(new Set(vms.map((vm) => vm.uuid)).size).toBe(3);
      for (const vm of vms) {
        for (const path of [vm.qmpPath, vm.checkerQmpPath]) {
          const admin = await Admin.connect(connect(path), () => '');
          expect(await admin.execute('query-name')).toEqual({ name: vm.name });
          expect(await admin.execute('query-uuid')).toEqual({ UUID: vm.uuid });
          expect((await admin.block(vm.deviceId(1))).inserted?.image.filename).toBe(vm.images(1)[0]?.path);
          admin.close();
        }
        await expect(vm.command('no such thing')).rejects.toThrow('? no');
      }
    } finally {
      await Promise.all(vms.map((vm) => vm[Symbol.asyncDispose]()));
    }
    for (const vm of vms) {
      expect(isRunning(vm.pid)).toBe(false);
      await expect(open(vm.dir)).rejects.toThrow('ENOENT');
    }
  });

  test('a guest that does not continue is reported in full: the answer of QEMU, its state, and the last words of the guest', async () => {
    await using vm = await GuestVm.start({ disks: ['id=1,size=16M'], append: 'gw.mode=seq gw.rate=20' });
    const admin = await Admin.connect(connect(vm.checkerQmpPath), () => '');
    await vm.work(1, 8);
    await admin.execute('stop');
    const waiting = vm.work(1, 1000, { timeoutMs: 0 });
    await expect(waiting).rejects.toThrow(
      /query-status: .*"paused"[^]*query-block-jobs: \[\][^]*query-jobs: \[\][^]*thread [^]*guest\.log ends:[^]*A 1 0 /,
    );
    // With room for one CPU TCG omits memory barriers, and a guest may stop for ever.
    const cpus = await admin.execute<unknown[]>('query-hotpluggable-cpus');
    expect(cpus).toHaveLength(vm.accel === 'tcg' ? 2 : 1);
    admin.close();
  });

  test('a VM that cannot start says why and leaves nothing', async () => {
    const starting = GuestVm.start({ disks: ['id=1,size=16M'], extraArgs: ['-device', 'no-such-device'] });
    await expect(starting).rejects.toThrow(/did not start[^]*no-such-device/);
  });

  test('QEMU ends with its test process, in whatever way that ends', async () => {
    await using dir = await testDir();
    const script = join(dir.path, 'orphan.mts');
    const support = join(import.meta.dirname, '../support/real-qemu');
    await using file = await open(script, 'wx');
    await file.writeFile(`
      import { GuestVm } from '${support}/guest-vm.ts';
      import { startQemu } from '${support}/qemu.ts';
      const vm = await GuestVm.start({ disks: ['id=1,size=16M'] });
      const qemu = await startQemu({ style: 'blockdev', disks: [] });
      console.log(JSON.stringify({ pids: [vm.pid, qemu.pid], dirs: [vm.dir, qemu.dir] }));
      process.kill(process.pid, 'SIGKILL');
    `);
    const { stdout } = await run('sh', ['-c', `"$0" "$1"; exit 0`, process.execPath, script]);
    const { pids, dirs }: { pids: number[]; dirs: string[] } = JSON.parse(stdout);
    expect(pids).toHaveLength(2);
    await expect.poll(() => pids.filter(isRunning), { timeout: 20_000 }).toEqual([]);
    await run('rm', ['-r', ...dirs]);
  });
});
