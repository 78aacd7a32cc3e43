/**
 * A copy to a slow destination uses a limited amount of QEMU's memory, and its figures are correct. With less than 16
 * MiB of buffers QEMU's mirror starts work that it does not count, without end: it reports more copied bytes than
 * exist, and gathers memory maps until the kernel gives no more and QEMU aborts, together with the guest.
 */
import { open, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { LOOPBACK, slowExport } from '../support/images/slow-export.ts';
import { needs } from '../support/means.ts';
import { MIB, Site } from '../support/real-qemu/bench-qemu.ts';
import type { Admin } from '../support/real-qemu/qemu.ts';
import { Rig } from '../support/real-qemu/rig.ts';
import { byId } from '../support/service/caller.ts';

const KIB = 1024;
/** Twice the need of sixteen pieces of work; without limits it is that within two seconds, and thousands soon. */
const MAPS_OF_A_COPY = 300;

interface BlockJob {
  readonly len: number;
  readonly offset: number;
  readonly ready: boolean;
}

async function mapsOf(pid: number): Promise<number> {
  return (await readFile(`/proc/${pid}/maps`, 'latin1')).split('\n').length;
}

/** Looks at QEMU until the copy has come so far: its memory grows no further, and it copies no more than there is. */
async function expectBounded(
  qemu: { pid: number; admin: Admin },
  mapsBefore: number,
  enough: (job: BlockJob) => boolean,
) {
  for (;;) {
    const [job] = await qemu.admin.execute<[BlockJob]>('query-block-jobs');
    expect(job.len - job.offset).toBeGreaterThanOrEqual(0);
    expect((await mapsOf(qemu.pid)) - mapsBefore).toBeLessThan(MAPS_OF_A_COPY);
    if (enough(job)) return;
    await sleep(50);
  }
}

/** Pieces of 192 KiB with a hole of 64 KiB behind each. */
async function scatter(path: string, sizeBytes: number): Promise<void> {
  await using file = await open(path, 'r+');
  const piece = Buffer.alloc(192 * KIB, 'data');
  for (let at = 0; at < sizeBytes; at += 256 * KIB) await file.write(piece, 0, piece.length, at);
}

describe('a copy to a slow destination, by defaults', { timeout: 60_000 }, () => {
  test('of a disk with many small pieces: QEMU holds no more than its buffers', async () => {
    const sizeBytes = 256 * MIB;
    await using site = await Site.open([LOOPBACK]);
    await using machine = await site.machine({ formats: ['raw'], sizeBytes });
    await scatter(machine.top.path, sizeBytes);
    await using server = await slowExport(machine.dir, sizeBytes, 24 * MIB);
    const before = await mapsOf(machine.qemu.pid);
    const { id } = await site.service.startCopy({ disk: machine.disk, destination: server.destination });
    await expectBounded(machine.qemu, before, ({ len, offset }) => {
      // Nobody writes: the whole disk must be copied, once.
      expect([0, sizeBytes]).toContain(len);
      return offset > 96 * MIB;
    });
    await site.service.abort({ job: byId(id), force: true });
  });

  test.skipIf(needs('guest'))('while the guest writes: it reports the right number of remaining bytes', async () => {
    const load = 'gw.mode=rand gw.bs=64 gw.batch=32 gw.rate=10';
    await using rig = await Rig.start({
      disks: ['id=1,fmt=raw,size=256M'],
      append: load,
      args: ['--allow-destination', LOOPBACK],
    });
    await rig.vm.work(1, 64);
    await using server = await slowExport(rig.folder, 256 * MIB, 20 * MIB);
    const before = await mapsOf(rig.vm.pid);
    const disk = { domain: 'web1', disk: rig.vm.deviceId(1) };
    const { id } = await rig.service.startCopy({ disk, destination: server.destination });
    await expectBounded({ pid: rig.vm.pid, admin: rig.admin }, before, ({ offset }) => offset > 96 * MIB);
    await rig.vm.work(1, 64);
    await rig.service.abort({ job: byId(id), force: true });
    await rig.vm.work(1, 64);
    expect(rig.vm.ioErrors()).toBe(0);
  });
});
