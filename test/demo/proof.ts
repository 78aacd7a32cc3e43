/** The proof that a pivot under load has lost nothing, and that the proof itself can fail. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { GuestVm } from '../support/real-qemu/guest-vm.ts';
import { type ImageFormat, run } from '../support/real-qemu/qemu.ts';

const BLOCK = 4096;

export interface Evidence {
  readonly vm: GuestVm;
  readonly disk: number;
  /** The image on which the guest is now. */
  readonly destination: { readonly path: string; readonly format: ImageFormat };
  /** `hashOf` each image that the guest has left, taken right after the pivot. */
  readonly hashes: ReadonlyMap<string, string>;
  /** The VM still runs, with its writers paused. */
  readonly live: boolean;
}

/** A condition of the proof, and the facts that were found. */
export interface Finding {
  readonly ok: boolean;
  readonly text: string;
}

export async function* prove({ vm, disk, destination, hashes, live }: Evidence): AsyncGenerator<Finding> {
  const bad = vm.log().filter((line) => /^[EV] /.test(line));
  yield {
    ok: bad.length === 0,
    text: bad.length === 0 ? 'the guest saw no I/O error, and read back what it wrote' : bad.slice(0, 5).join('\n'),
  };

  const fresh = await vm.check(disk, { image: destination.path, format: destination.format, live });
  const lost = `new image: ${fresh.lost} of ${fresh.blocks} blocks are WRONG\n${fresh.text}`;
  const all = `new image: all of its ${fresh.blocks} blocks are right`;
  yield {
    ok: fresh.lost === 0 && fresh.acked_ops > 0,
    text: fresh.lost > 0 ? lost : `${all}; ${fresh.acked_ops} operations were acknowledged, none is lost`,
  };

  const changed = await changedImages(hashes);
  const names = [...hashes.keys()].map((path) => path.slice(path.lastIndexOf('/') + 1)).join(', ');
  yield {
    ok: changed.length === 0,
    text:
      changed.length === 0
        ? `old images: not one byte has changed since the pivot (SHA-256 of ${names})`
        : `old images: CHANGED since the pivot: ${changed.join(', ')}`,
  };

  const stale = await vm.check(disk); // the image that was active at the start
  yield {
    ok: stale.lost > 0,
    text:
      stale.lost > 0
        ? `old image: the same check fails there, as it must: ${stale.lost} blocks are out of date`
        : 'old image: the same check passes there, so it PROVES NOTHING',
  };
}

async function changedImages(hashes: ReadonlyMap<string, string>): Promise<string[]> {
  const now = await Promise.all(
    [...hashes].map(async ([path, then]) => ({ path, same: (await hashOf(path)) === then })),
  );
  return now.filter(({ same }) => !same).map(({ path }) => path);
}

export async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** Zeroes a block that was acknowledged to the guest, and returns its number. */
export async function plantLoss({ vm, disk, destination }: Evidence): Promise<number> {
  const block = await vm.writtenBlock(disk);
  const write = `write -P 0 ${block * BLOCK} ${BLOCK}`;
  await run('qemu-io', ['-f', destination.format, '-c', write, destination.path]);
  return block;
}
