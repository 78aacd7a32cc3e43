/** A QEMU with several disks, named disk0, disk1 and so on, each of two images. */
import { join } from 'node:path';
import { type Job_State, OnReady, PauseGuest } from '../../../generated/blockjob/v1/job.ts';
import type { Service } from '../service/service.ts';
import { makeChain, type Qemu, startQemu, testDir } from './qemu.ts';

const MIB = 1 << 20;

export interface VmOfDisks extends AsyncDisposable {
  readonly qemu: Qemu;
  readonly name: string;
  readonly dir: string;
  readonly disks: readonly string[];
}

export async function vmOfDisks(count: number, args: (name: string) => readonly string[]): Promise<VmOfDisks> {
  await using started = new AsyncDisposableStack();
  const { path: dir } = started.use(await testDir());
  const name = `h${dir.slice(-6)}`;
  const ids = Array.from({ length: count }, (_, index) => `disk${index}`);
  const disks = await Promise.all(
    ids.map(async (id) => {
      const chain = await makeChain(dir, { formats: ['qcow2', 'qcow2'], sizeBytes: 4 * MIB, prefix: id });
      return { id, bus: 'virtio-blk', chain } as const;
    }),
  );
  const qemu = started.use(await startQemu({ style: 'blockdev', name, disks, extraArgs: args(name) }));
  const kept = started.move();
  return { qemu, name, dir, disks: ids, [Symbol.asyncDispose]: async () => await kept.disposeAsync() };
}

/** Moves the disk to a new file of that name, with the guest held for the pivot. */
export async function pivoted(
  service: Service,
  vm: VmOfDisks,
  disk: string,
  name = `${disk}-copy`,
): Promise<Job_State> {
  const { id } = await service.startCopy({
    disk: { domain: vm.name, disk },
    destination: { target: { $case: 'file', value: join(vm.dir, name) } },
    onReady: OnReady.ON_READY_PIVOT,
    pauseGuest: PauseGuest.PAUSE_GUEST_ALWAYS,
  });
  for await (const _event of service.watch(id));
  return (await service.getInfo(id)).state;
}
