/** A QEMU with several disks, named disk0, disk1 and so on, each of two images. */
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
