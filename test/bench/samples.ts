/**
 * make bench: measures what the agent uses while it looks at the copies of many VMs, every two seconds, and nobody
 * watches. The VMs are real QEMUs, each with a copy that is READY.
 */
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImageFormat } from '../../generated/blockjob/v1/job.ts';
import { eventually } from '../support/checks.ts';
import { useOf } from '../support/memory.ts';
import { testDir } from '../support/real-qemu/qemu.ts';
import { Service } from '../support/service/service.ts';
import type { Figure } from './figure.ts';
import { areKnown, BUILT, startVms } from './vms.ts';

const VMS = 100;
const DISK_BYTES = 1 << 20;
const QUIET_MS = 20_000;
const ROUNDS = 3;

function machineOf(folder: string, name: string): readonly string[] {
  const disk = `driver=raw,node-name=disk0,file.driver=file,file.filename=${join(folder, `${name}.raw`)}`;
  const machine = ['-machine', 'microvm', '-m', '8', '-S', '-blockdev', disk];
  return [...machine, '-device', 'virtio-blk-device,drive=disk0,id=virtio0'];
}

async function sharesOf(service: Service): Promise<readonly number[]> {
  const shares: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const before = useOf(service).cpuMs;
    await sleep(QUIET_MS);
    shares.push((100 * (useOf(service).cpuMs - before)) / QUIET_MS);
  }
  return shares;
}

export async function measure(): Promise<readonly Figure[]> {
  await using held = new AsyncDisposableStack();
  const folder = held.use(await testDir()).path;
  const names = Array.from({ length: VMS }, (_, at) => `vm${at}`);
  for (const name of names) {
    await writeFile(join(folder, `${name}.raw`), '');
    await truncate(join(folder, `${name}.raw`), DISK_BYTES);
  }
  await startVms(folder, VMS, held, (name) => machineOf(folder, name));
  const state = held.use(await testDir());
  const service = held.use(
    await Service.start({
      dir: state.path,
      qmpDir: folder,
      allow: [state.path],
      args: ['--max-jobs', '200', '--log-level', 'info'],
      program: BUILT,
    }),
  );
  await eventually(`${VMS} VMs are known`, async () => await areKnown(service, VMS), 120_000);
  const without = await sharesOf(service);
  const copied = async (name: string) => {
    const target = { $case: 'file', value: join(state.path, `${name}.raw`) } as const;
    const destination = { target, format: ImageFormat.IMAGE_FORMAT_RAW };
    const { id } = await service.startCopy({ disk: { domain: name, disk: 'virtio0' }, destination });
    await service.until(id, 'STATE_READY');
  };
  await Promise.all(names.map(copied));
  const shares = { 'without a copy': without, 'with a copy each, nobody watches': await sharesOf(service) };
  return Object.entries(shares).map(([what, values]) => ({ what, by: 'the agent', unit: '% of a core', values }));
}
