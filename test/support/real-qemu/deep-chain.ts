/** Chains of very many images. */
import { basename, join } from 'node:path';
import pLimit from 'p-limit';
import { type ChainImage, run } from './qemu.ts';

export interface DeepChainOptions {
  readonly depth: number;
  readonly sizeBytes: number;
  /** Records the backing files by name only, so that they differ from the names that QEMU gets. */
  readonly relative?: boolean;
}

/** Empty images, base first. None is opened to make the next, which would take a time quadratic in the depth. */
export async function deepChain(dir: string, { depth, sizeBytes, relative }: DeepChainOptions): Promise<ChainImage[]> {
  const paths = Array.from({ length: depth }, (_, at) => join(dir, `image${at}.qcow2`));
  const inTurn = pLimit(2);
  const make = async (path: string, at: number) => {
    const below = at === 0 ? undefined : paths[at - 1];
    const backing = below === undefined ? [] : ['-u', '-F', 'qcow2', '-b', relative === true ? basename(below) : below];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, path, String(sizeBytes)]);
  };
  await Promise.all(paths.map(async (path, at) => await inTurn(async () => await make(path, at))));
  return paths.map((path) => ({ format: 'qcow2', path }));
}
