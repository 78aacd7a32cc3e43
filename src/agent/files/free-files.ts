/** The files of a job's outcome that are still safe to delete: names change, and so do holders. */
import { losesSnapshots } from '../../core/disk/judge.ts';
import type { Job } from '../../core/job/job.ts';
import { onShared, type SafeFile } from '../../core/job/outcome.ts';
import type { KnownFile } from '../../core/job/step.ts';
import type { Holders } from '../qemu/graphs.ts';
import { fileKey, hasSnapshots, isStill, isThere } from './files.ts';
import { sharedStorage } from './shared-storage.ts';

type Named = readonly SafeFile[];

/**
 * Leaves out a file that is no longer the same, or was never proved to be; and one that a process may have open, or
 * that has internal snapshots whose loss was not accepted.
 */
export async function freeFiles(
  { accepted, madeFile }: Pick<Job, 'accepted' | 'madeFile'>,
  files: Named,
  holder: Holders,
): Promise<Named> {
  const { source, sourceFile, committed } = accepted;
  const known = new Map<string, KnownFile>(committed.map((file) => [file.path, file]));
  if (sourceFile !== undefined) known.set(source.path, sourceFile);
  if (madeFile !== undefined) known.set(madeFile.path, madeFile);
  const images = files.filter(({ path }) => {
    const file = known.get(path);
    return file !== undefined && file !== madeFile && !(path === source.path && source.format === 'raw');
  });
  const keepsImages = !losesSnapshots(accepted.losses) && (await haveSnapshots(images));
  const free = await Promise.all(
    files.map(async ({ path }) => {
      const file = known.get(path);
      if (file === undefined || !(await isStill(file).catch(() => false))) return false;
      // A link to it may lead elsewhere now.
      if (path !== file.path && (await fileKey(path)) !== (await fileKey(file.path))) return false;
      if (keepsImages && file !== madeFile) return false;
      return (await holder(path)) === undefined;
    }),
  );
  return await Promise.all(files.filter((_file, at) => free[at]).map(warned));
}

/** Once: a recorded file already has its warning. */
async function warned(file: SafeFile): Promise<SafeFile> {
  const storage = file.sharedStorage ?? (await sharedStorage(file.path));
  if (file.sharedStorage !== undefined || storage === undefined) return file;
  const warning = [file.warning, onShared(storage)].filter((text) => text !== '').join('; ');
  return { ...file, warning, sharedStorage: storage };
}

/** An image needs those below it. One that cannot be read may have some; a deleted one has none. */
async function haveSnapshots(images: Named): Promise<boolean> {
  const found = await Promise.all(
    images.map(async ({ path }) => await hasSnapshots(path).catch(async () => await isThere(path).catch(() => true))),
  );
  return found.includes(true);
}
