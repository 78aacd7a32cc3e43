/** Files of a chain, identified by more than their names: proved to be those that QEMU has open. */
import type { BigIntStats } from 'node:fs';
import type { Image } from '../../core/disk/chain.ts';
import { SECTOR_BYTES } from '../../core/disk/sectors.ts';
import type { KnownFile } from '../../core/job/step.ts';
import { lstat, realpath } from '../host/disk-files.ts';
import { identityOf } from '../host/file-identity.ts';
import { isOpen, type OpenFiles, soughtAs } from '../host/open-files.ts';
import type { VirtualMachine } from '../qemu/virtual-machine.ts';
import { knownAs } from './files.ts';

/** NONE: not a file of this host. NOT_PROVED: such a file exists, but QEMU has another one. */
export type ProvedFile = KnownFile | 'NONE' | 'NOT_PROVED';

type Asked = Pick<VirtualMachine, 'openFiles' | 'graph'>;

/** Regular files, one for each image, in their order: the node of a device is nothing to delete. */
export async function knownFiles(images: readonly Image[], machine: Asked): Promise<readonly ProvedFile[]> {
  const files = images.map(async (image) => ({
    node: image.node,
    found: await fileOf(image, (stats) => stats.isFile()),
  }));
  return await proved(await Promise.all(files), machine);
}

/** The known ones. */
export async function namedFiles(images: readonly Image[], machine: Asked): Promise<readonly KnownFile[]> {
  return (await knownFiles(images, machine)).filter((file) => typeof file === 'object');
}

/** A file or a device; undefined if it is not known to be QEMU's. */
export async function knownSource(image: Image, machine: Asked): Promise<KnownFile | undefined> {
  const found = await fileOf(image, (stats) => stats.isFile() || stats.isBlockDevice());
  const [known] = await proved([{ node: image.node, found }], machine);
  return typeof known === 'object' ? known : undefined;
}

async function proved(files: readonly { node: string; found: Found | undefined }[], machine: Asked) {
  const opens = machine.openFiles();
  // If /proc does not show it, QEMU's word has to do: its report of the file's size lies between two looks at the file.
  const { nodes } = opens === undefined ? await machine.graph() : {};
  return await Promise.all(
    files.map(async ({ node, found }): Promise<ProvedFile> => {
      if (found === undefined) return 'NONE';
      const isProved = opens ? await isOpenedBy(opens, found) : await saysTheSame(nodes?.get(node), found);
      return isProved ? knownAs(found.path, found.stats) : 'NOT_PROVED';
    }),
  );
}

interface Found {
  /** Without symbolic links. */
  readonly path: string;
  readonly stats: BigIntStats;
}

async function fileOf({ path, isPart }: Image, isOne: (stats: BigIntStats) => boolean): Promise<Found | undefined> {
  // The rest of such a file belongs to others: it is not a file of this image.
  if (isPart) return undefined;
  const real = path.startsWith('/') ? await realpath(path).catch(() => undefined) : undefined;
  const stats = real === undefined ? undefined : await lstat(real).catch(() => undefined);
  return real === undefined || stats === undefined || !isOne(stats) ? undefined : { path: real, stats };
}

async function isOpenedBy(opens: OpenFiles, { path, stats }: Found): Promise<boolean> {
  return await isOpen(opens, await soughtAs(await identityOf(stats), path));
}

async function saysTheSame(image: Image | undefined, { path, stats: before }: Found): Promise<boolean> {
  const after = await lstat(path).catch(() => undefined);
  const seen = image?.allocatedBytes === undefined ? undefined : image.allocatedBytes / SECTOR_BYTES;
  return seen !== undefined && after !== undefined && before.blocks <= seen && seen <= after.blocks;
}
