/**
 * A shallow copy into a destination that is there writes what the active image holds, and no more: all else the guest reads
 * from what was there before. How is it known that this is what the image below the active one shows?
 */
import type { Job } from './job.ts';
import type { Accepted, Reused } from './journal-entry.ts';

/** What makes a destination, so that nothing in it is from before. */
const MAKES: ReadonlySet<string> = new Set(['create-destination', 'format-destination']);

/** The step that compares. */
export const VERIFY_STEP = 'verify-reused';

/** Why the copy is right only if the caller is; undefined: it is so in any case. */
export function restsOnWord({ accepted, steps }: Pick<Job, 'accepted' | 'steps'>): string | undefined {
  const { kind, reused, recovered, plan, options } = accepted;
  if (kind !== 'COPY') return undefined;
  if (reused !== undefined) {
    const isSeen = reused.by === 'SAME_FILE' || (reused.by === 'COMPARED' && steps.get(VERIFY_STEP) === 'DONE');
    return isSeen ? undefined : onWord(reused);
  }
  if (recovered === true) {
    return 'whether the copy takes something over from what was at its destination only the lost journal knew';
  }
  // An older service did not write it down.
  const isTop = plan.some(
    ({ run }) => run.do === 'qmp' && run.command.execute === 'blockdev-mirror' && run.command.arguments.sync === 'top',
  );
  const isReused = options.reuseExternal && !plan.some(({ name }) => MAKES.has(name));
  return isTop && isReused
    ? 'what is below the active image was there at the destination before: that it is the same, the caller said'
    : undefined;
}

function onWord({ path, backing }: Reused): string {
  return `that ${path} showed what ${backing} shows, before the copy began, is the caller's word: it was not compared`;
}

/** As a finding of a job; undefined: nothing was taken over. */
export function reusedInWords(job: Pick<Job, 'accepted' | 'steps'>): string | undefined {
  return restsOnWord(job) ?? (job.accepted.reused && proved(job.accepted.reused));
}

/** As a plan says it; undefined: nothing is taken over. */
export function willBeReused(accepted: Accepted): string | undefined {
  const { reused } = accepted;
  if (reused?.by !== 'COMPARED') return reusedInWords({ accepted, steps: new Map() });
  return `${reused.path} is compared with ${reused.backing} before the copy begins, and all of both is read for it`;
}

function proved({ by, path, backing }: Reused): string {
  return by === 'COMPARED'
    ? `${path} showed what ${backing} shows: all of both was compared before the copy began`
    : `${path} held nothing of its own before the copy began, and its backing file is ${backing} itself`;
}
