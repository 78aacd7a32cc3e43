/** The name of a lower image relative to a higher one, as the headers of the chain give it. */
import { relativeName, resolveFrom } from '../../core/disk/chain-images.ts';
import { fail } from '../../core/errors.ts';
import { fileKey } from '../files/files.ts';
import type { Site } from './site.ts';

/** Throws if the headers do not name it relatively, or name another file than the one that QEMU has there. */
export async function keptName({ disk: { id, chain } }: Pick<Site, 'disk'>, from: number, to: number): Promise<string> {
  const [above, below] = [chain[from]?.path ?? '', chain[to]?.path ?? ''];
  const name = relativeName(chain, from, to);
  if (name === undefined) {
    fail('RELATIVE_UNSUPPORTED', { why: `the chain of disk ${id} does not name ${below} relatively` });
  }
  const found = resolveFrom(above, name);
  if (found !== undefined && (found === below || (await fileKey(found)) === (await fileKey(below)))) return name;
  fail('RELATIVE_UNSUPPORTED', { why: `the image that the chain of disk ${id} names relatively is not ${below}` });
}
