/**
 * A shallow copy into an existing destination writes only the data of the active image; the guest reads the rest from
 * what was there before. How is it known that this is the same as the image below the active one?
 */
import type { Job } from './job.ts';
import type { Accepted, Reused } from './journal-entry.ts';

/** The steps that make a destination, so that none of its contents is older. */
const MAKES: ReadonlySet<string> = new Set(['create-destination', 'format-destination']);

/** The comparing step. */
export const VERIFY_STEP = 'verify-reused';

/** Why the copy is right only if the caller is; undefined if it is right in any case. */
export function restsOnWord({ accepted, steps }: Pick<Job, 'accepted' | 'steps'>): string | undefined {
  const { kind, reused, recovered, plan, options } = accepted;
  if (kind !== 'COPY') return undefined;
  if (reused !== undefined) {
    const isSeen = reused.by === 'SAME_FILE' || (reused.by === 'COMPARED' && steps.get(VERIFY_STEP) === 'DONE');
    return isSeen ? undefined : onWord(reused);
  }
  if (recovered === true) {
    return 'only the lost journal knew whether the copy uses older contents of its destination';
  }
  // An older service did not record it.
  const isTop = plan.some(
    ({ run }) => run.do === 'qmp' && run.command.execute === 'blockdev-mirror' && run.command.arguments.sync === 'top',
  );
  const isReused = options.reuseExternal && !plan.some(({ name }) => MAKES.has(name));
  return isTop && isReused
    ? 'the images below the destination existed before the copy: only the caller says that they have the contents of the disk’s'
    : undefined;
}

function onWord({ path, backing }: Reused): string {
  return `only the caller says that ${path} had the contents of ${backing} before the copy began: they were not compared`;
}

/** As evidence of a job; undefined if nothing was taken over. */
export function reusedInWords(job: Pick<Job, 'accepted' | 'steps'>): string | undefined {
  return restsOnWord(job) ?? (job.accepted.reused && proved(job.accepted.reused));
}

/** As a note of a plan; undefined if nothing is taken over. */
export function willBeReused(accepted: Accepted): string | undefined {
  const { reused } = accepted;
  if (reused?.by !== 'COMPARED') return reusedInWords({ accepted, steps: new Map() });
  return `${reused.path} and ${reused.backing} are read completely and compared before the copy begins`;
}

function proved({ by, path, backing }: Reused): string {
  return by === 'COMPARED'
    ? `${path} had the contents of ${backing}: both were compared completely before the copy began`
    : `${path} held no data of its own before the copy began, and its backing file is ${backing} itself`;
}
