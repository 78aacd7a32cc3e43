/** Of the files that a job's outcome calls safe to delete those that are so still: names change, and so do holders. */
import type { Job } from '../core/job.ts';
import type { Outcome } from '../core/outcome.ts';
import type { KnownFile } from '../core/plans/step.ts';
import { fileKey, isStill } from './files.ts';
import type { Holder } from './graphs.ts';

type Named = Outcome['safeToDelete'];

/** What is no longer that very file, or was never proved to be, is not named; nor what anybody may have open. */
export async function freeFiles(
  { accepted, madeFile }: Pick<Job, 'accepted' | 'madeFile'>,
  files: Named,
  holder: Holder,
): Promise<Named> {
  const { source, sourceFile, committed } = accepted;
  const known = new Map<string, KnownFile>(committed.map((file) => [file.path, file]));
  if (sourceFile !== undefined) known.set(source.path, sourceFile);
  if (madeFile !== undefined) known.set(madeFile.path, madeFile);
  const free = await Promise.all(
    files.map(async ({ path }) => {
      const file = known.get(path);
      if (file === undefined || !(await isStill(file).catch(() => false))) return false;
      // A link to it may lead elsewhere now.
      if (path !== file.path && (await fileKey(path)) !== (await fileKey(file.path))) return false;
      return (await holder(path)) === undefined;
    }),
  );
  return files.filter((_file, at) => free[at]);
}
