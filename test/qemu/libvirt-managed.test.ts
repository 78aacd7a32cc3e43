/** A QEMU that libvirt manages is recognized by libvirt's names, and left to libvirt. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Operation } from '../../generated/blockjob/v1/domain_service.ts';
import { OnReady } from '../../generated/blockjob/v1/job.ts';
import { needs } from '../support/means.ts';
import { type ChainImage, makeChain, type Qemu, startQemu, testDir } from '../support/real-qemu/qemu.ts';
import { refused } from '../support/service/caller.ts';
import { Service } from '../support/service/service.ts';

const MIB = 1 << 20;

/** The signs of libvirt: its own monitor, as in each version, and the names of its nodes, since 5.10. */
const SIGNS = {
  monitor: (dir: string) => [
    '-chardev',
    `socket,id=charmonitor,path=${join(dir, 'monitor.sock')},server=on,wait=off`,
    '-mon',
    'chardev=charmonitor,id=monitor,mode=control',
  ],
  nodes: (dir: string) => [
    '-blockdev',
    JSON.stringify({ driver: 'file', 'node-name': 'libvirt-1-storage', filename: join(dir, 'other-base.raw') }),
    '-blockdev',
    JSON.stringify({ driver: 'raw', 'node-name': 'libvirt-1-format', file: 'libvirt-1-storage' }),
  ],
} as const;

async function vm(dir: string, extraArgs: readonly string[]): Promise<{ qemu: Qemu; chain: readonly ChainImage[] }> {
  const chain = await makeChain(dir, { formats: ['qcow2', 'qcow2', 'qcow2'], sizeBytes: MIB });
  await makeChain(dir, { formats: ['raw'], sizeBytes: MIB, prefix: 'other' });
  const disks = [{ id: 'vd0', bus: 'virtio-blk', chain }] as const;
  return { qemu: await startQemu({ style: 'drive', name: 'web1', disks, extraArgs }), chain };
}

const disk = { domain: 'web1', disk: 'vd0' };

describe.skipIf(needs('qemu'))('a VM that libvirt manages', () => {
  test.each(['monitor', 'nodes'] as const)(
    'is recognized by its %s: it is shown, and no job is started',
    async (sign) => {
      await using dir = await testDir();
      const { qemu, chain } = await vm(dir.path, SIGNS[sign](dir.path));
      await using _qemu = qemu;
      await using service = await Service.start({ dir: dir.path, qmp: { web1: qemu.qmpPath }, allow: [dir.path] });
      await service.domainUp('web1');
      expect((await service.getDomain('web1')).disks[0]?.chain).toHaveLength(3);
      const destination = { target: { $case: 'file', value: join(dir.path, 'new.qcow2') } } as const;
      const base = chain[0]?.path ?? '';
      const starts = [
        service.startCopy({ disk, destination }),
        service.startCopy({ disk, destination, validateOnly: true }),
        service.rebase({ disk }),
        service.commit({ disk, base, top: chain[1]?.path ?? '' }),
      ];
      for (const refusal of await Promise.all(starts.map(refused))) {
        expect(refusal).toMatchObject({
          code: 9,
          reason: 'MANAGED_BY_LIBVIRT',
          metadata: { domain: 'web1' },
        });
      }
      for (const operation of [Operation.OPERATION_SAVE, Operation.OPERATION_MIGRATE]) {
        await expect(service.checkOperation({ domain: 'web1', operation })).resolves.toBeUndefined();
      }
    },
  );

  test('with --allow-libvirt-managed a job may move its disk, and then all operations of libvirt are forbidden', async () => {
    await using dir = await testDir();
    const { qemu } = await vm(dir.path, SIGNS.monitor(dir.path));
    await using _qemu = qemu;
    const args = ['--allow-libvirt-managed'];
    await using service = await Service.start({ dir: dir.path, qmp: { web1: qemu.qmpPath }, allow: [dir.path], args });
    await service.domainUp('web1');
    const value = join(dir.path, 'new.qcow2');
    const destination = { target: { $case: 'file', value } } as const;
    const { id } = await service.startCopy({ disk, destination, onReady: OnReady.ON_READY_PIVOT });
    await service.until(id, 'STATE_COMPLETED');
    const operations = [
      [Operation.OPERATION_SAVE, undefined],
      [Operation.OPERATION_MIGRATE, undefined],
      [Operation.OPERATION_SNAPSHOT, 'vd0'],
      [Operation.OPERATION_RESIZE, 'vd0'],
    ] as const;
    for (const [operation, named] of operations) {
      const asked = service.checkOperation({ domain: 'web1', operation, ...(named && { disk: named }) });
      const refusal = await asked;
      expect(refusal).toMatchObject({ code: 9, reason: 'MANAGED_BY_LIBVIRT' });
      expect(refusal?.message).toContain(value);
    }
  });
});
