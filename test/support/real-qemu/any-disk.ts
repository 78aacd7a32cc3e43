/** QEMUs with a disk of any graph, in both ways in which a QEMU can get it. */
import { monitorIn } from '../checks.ts';
import type { Service } from '../service/service.ts';
import { type Qemu, run, type Style, startQemu } from './qemu.ts';

export interface AnyDisk {
  /** Its name, and the folder of its images. */
  readonly name: string;
  /** The nodes of -blockdev, each before those that use it; the last one is the disk. */
  readonly nodes: readonly object[];
  /** The options of -drive for the same disk. */
  readonly drive: string;
  /** More options of the device. */
  readonly device?: string;
  readonly extraArgs?: readonly string[];
}

export interface Served {
  readonly service: Service;
  readonly sockets: string;
}

/** One with the disk `disk0`, known to the service. */
export async function startWith(site: Served, style: Style, disk: AnyDisk): Promise<Qemu> {
  const { name, nodes, drive, device = '', extraArgs = [] } = disk;
  const top = { ...nodes.at(-1), 'node-name': 'top' };
  const back =
    style === 'drive'
      ? ['-drive', `if=none,id=top,${drive}`]
      : [...nodes.slice(0, -1), top].flatMap((node) => ['-blockdev', JSON.stringify(node)]);
  const front = ['-device', `virtio-blk-pci,id=disk0,drive=top${device}`];
  const qemu = await startQemu({
    style,
    name,
    disks: [],
    extraArgs: [...monitorIn(site.sockets, name), ...extraArgs, ...back, ...front],
  });
  await site.service.domainUp(name);
  return qemu;
}

/** Opened in a fresh process, by their headers alone. */
export async function sameContents(one: readonly string[], other: readonly string[]): Promise<boolean> {
  const options = ['--image-opts', ...one, ...other];
  return (await run('qemu-img', ['compare', ...options], { accept: [0, 1] })).code === 0;
}
