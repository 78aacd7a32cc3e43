/** The files of a job's disk at its begin, and those that it may get. */
import type { Disk } from '../../core/disk/chain.ts';
import type { Accepted } from '../../core/job/journal-entry.ts';
import { type FileNames, filesOpenedBy, type UsedFile } from '../../core/job/used-file.ts';
import { identify } from './file-identity.ts';

export async function usedFiles(
  { kind, destination, plan }: Accepted,
  { chain }: Pick<Disk, 'chain'>,
): Promise<readonly UsedFile[]> {
  const copy = kind === 'COPY' ? destination?.path : undefined;
  const images = chain.flatMap(({ path, dataFile }) => (dataFile === '' ? [path] : [path, dataFile]));
  const disk = new Set([...images, ...filesOpenedBy(plan)].filter((path) => path !== copy));
  return await Promise.all([
    ...[...disk].map(async (path) => ({ ...(await fileNamesOf(path)), as: 'DISK' }) as const),
    ...(copy === undefined ? [] : [copy]).map(async (path) => ({ ...(await fileNamesOf(path)), as: 'COPY' }) as const),
  ]);
}

/** All known facts of the file at a path now. */
export async function fileNamesOf(path: string): Promise<FileNames> {
  const found = await identify(path);
  if (found === undefined) return { path };
  const { key, keys, born } = found;
  const isMore = keys.size > 1 || !keys.has(key);
  return { path, key, ...(isMore && { keys: [...keys] }), ...(born !== undefined && { born }) };
}
