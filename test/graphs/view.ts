/** The files that QEMU finds at each name: the same as everybody, or others, in a mount namespace of its own. */
import { cp, mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Random } from '../support/random.ts';

export interface View {
  /** The command that starts a process which finds the files as QEMU does. */
  readonly under: readonly string[];
  /** The path at which others find the file that QEMU finds there. */
  readonly outside: (path: string) => string;
}

export const PLAIN: View = { under: [], outside: (path) => path };

/**
 * From now on only QEMU finds the images at their old paths. Others find different files there: the same bytes, other
 * bytes, or nothing.
 */
export async function hide(images: string, random: Random): Promise<View> {
  const real = `${images}-real`;
  await rename(images, real);
  await mkdir(images);
  const decoys = random.of(['same', 'junk', 'none'] as const);
  if (decoys !== 'none') await cp(real, images, { recursive: true });
  if (decoys === 'junk') {
    for (const entry of await readdir(images, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) await writeFile(join(entry.parentPath, entry.name), Buffer.alloc(4096, 0x77));
    }
  }
  const under = ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" "$1" && shift && exec "$@"', real, images];
  const isHidden = (path: string) => path === images || path.startsWith(`${images}/`);
  return { under, outside: (path) => (isHidden(path) ? real + path.slice(images.length) : path) };
}
